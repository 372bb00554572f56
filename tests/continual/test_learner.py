"""A sequence is learned as its settings say: replay forgets less, refresh that is off changes no bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from expunge.continual import (
    CPR,
    OBJECTIVES,
    REFRESHES,
    FisherSettings,
    LearnedSequence,
    Learner,
    MeanField,
    Objective,
    Refresh,
    Samples,
    Task,
    accuracy,
    learn,
)
from expunge.continual.fisher import evaluating
from expunge.errors import ConfigError, ExpungeError, TrainingError, UserError

BASE = Learner(epochs=4, batch=20, memory=60, memory_batch=20, learning_rate=0.1)


def told(settings: Learner, tasks: list[Task], network: Callable[[int], nn.Module], seed: int = 0
         ) -> tuple[LearnedSequence, dict[str, torch.Tensor]]:
    model = network(seed)
    record = learn(model, tasks, settings, seed=seed)
    return record, {name: value.clone() for name, value in model.state_dict().items()}


def with_objective(name: str, **changes: Any) -> Learner:
    return BASE.model_copy(update={"objective": OBJECTIVES[name], **changes})


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


def test_naive_training_forgets_and_replay_forgets_less(digits: list[Task], network: Any) -> None:
    naive, _ = told(with_objective("naive"), digits, network)
    assert naive.class_incremental.learned > 0.9
    assert naive.class_incremental.forgetting > 0.8
    for name in ("er", "der++"):
        replayed, _ = told(with_objective(name), digits, network)
        assert replayed.class_incremental.forgetting < naive.class_incremental.forgetting - 0.15
        assert replayed.class_incremental.final_average > naive.class_incremental.final_average + 0.1
        assert replayed.task_incremental.final_average > replayed.class_incremental.final_average


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name != "vcl"])
def test_every_method_learns_with_and_without_refresh(name: str, digits: list[Task], network: Any) -> None:
    refresh = REFRESHES["safe"].refresh
    for settings in (with_objective(name), with_objective(name, refresh=refresh)):
        record, _ = told(settings, digits[:2], network)
        assert record.class_incremental.rows[0][0] > 0.9
        assert record.task_incremental.final_average > 0.8
        assert record.steps == 40
        assert record.refreshes == (20 if settings.refresh else 0)
        assert LearnedSequence.read(record.model_dump_json()) == record


def test_variational_learning_holds_the_first_task_as_much_as_it_is_told(digits: list[Task], network: Any) -> None:
    kept = {}
    for weight in (0.0, 1e-2):
        term = OBJECTIVES["vcl"].weights[0].model_copy(update={"weight": weight})
        settings = BASE.model_copy(update={"objective": Objective(weights=(term,)), "epochs": 12})
        record = learn(MeanField(network(0), std=0.05), digits[:2], settings)
        assert record.class_incremental.rows[0][0] > 0.9
        kept[weight] = record.class_incremental.rows[1][0]
    assert kept[0.0] < 0.1
    assert kept[1e-2] > 0.9


@pytest.mark.parametrize("name", ["er", "ewc"])
def test_refresh_that_is_off_is_the_method_bit_for_bit(name: str, digits: list[Task], network: Any) -> None:
    _, plain = told(with_objective(name), digits[:2], network)
    for off in (Refresh(steps=0), Refresh(gamma=0.0, noise=1.0)):
        record, weights = told(with_objective(name, refresh=off), digits[:2], network)
        assert same(plain, weights)
        assert record.refreshes == 0
    for preset in REFRESHES.values():
        _, weights = told(with_objective(name, **vars(preset)), digits[:2], network)
        assert not same(plain, weights)


def test_how_refresh_measures_its_metric_changes_nothing_of_the_objectives(digits: list[Task], network: Any) -> None:
    """A refresh that hardly moves leaves EWC where it was, however its own metric is measured and forgotten."""
    tiny = Refresh(gamma=1e-12, norm="fisher")
    _, plain = told(with_objective("ewc"), digits, network)
    for how in (FisherSettings(kind="weighted", decay=1e-5), FisherSettings(kind="true")):
        _, weights = told(with_objective("ewc", refresh=tiny, refresh_fisher=how), digits, network)
        for name, value in plain.items():
            torch.testing.assert_close(weights[name], value, rtol=1e-4, atol=1e-5)
    _, other = told(with_objective("ewc", fisher=FisherSettings(kind="weighted", decay=1e-5)), digits, network)
    assert not all(torch.allclose(other[name], value, rtol=1e-2, atol=1e-3) for name, value in plain.items())


def test_same_seed_same_weights_and_another_seed_others(digits: list[Task], network: Any) -> None:
    settings = with_objective("der++", refresh=REFRESHES["paper"].refresh.model_copy(update={"gamma": 1e-6}))
    model, again, other = network(0), network(0), network(0)
    state = torch.get_rng_state()
    for one, seed in ((model, 1), (again, 1), (other, 2)):
        learn(one, digits[:2], settings, seed=seed)
    assert same(model.state_dict(), again.state_dict())
    assert not same(model.state_dict(), other.state_dict())
    assert torch.equal(torch.get_rng_state(), state)


def test_what_is_climbed_is_a_choice(digits: list[Task], network: Any) -> None:
    ends = [told(with_objective("er", refresh=Refresh(gamma=0.01), ascend=which), digits[:2], network)[1]
            for which in ("full", "new")]
    assert not same(*ends)


def test_penalties_hold_the_weights(digits: list[Task], network: Any) -> None:
    start = network(0).state_dict()

    def drift(settings: Learner) -> float:
        _, weights = told(settings, digits[:2], network)
        return sum(float((weights[name] - start[name]).square().sum()) for name in weights)

    stronger = OBJECTIVES["l2-sp"].weights[0].model_copy(update={"weight": 1.0})
    assert drift(BASE.model_copy(update={"objective": Objective(weights=(stronger,))})) < 0.5 * drift(BASE)


def test_evaluation_by_task_chooses_among_its_classes_alone(digits: list[Task]) -> None:
    class Biased(nn.Module):
        """Right within the first task, and always surer of class 5."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            right = torch.nn.functional.one_hot(digits[0].test.labels, 6).float()
            return right + torch.tensor([0, 0, 0, 0, 0, 9.0])

    assert accuracy(Biased(), digits[0], task_incremental=True) == 1.0
    assert accuracy(Biased(), digits[0], task_incremental=False) == 0.0


def test_mean_field_without_a_draw_is_the_module_and_with_one_is_not(network: Any) -> None:
    module = network(0)
    x = torch.rand(5, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = module(x).detach()
    wrapped = MeanField(network(0), std=0.1)
    torch.testing.assert_close(wrapped(x).detach(), expected, rtol=0, atol=0)
    wrapped.resample(torch.Generator().manual_seed(1))
    one = wrapped(x).detach()
    assert torch.equal(wrapped(x).detach(), one)
    assert not torch.allclose(one, expected)
    wrapped.resample(None)
    torch.testing.assert_close(wrapped(x).detach(), expected, rtol=0, atol=0)
    assert all(name.endswith(("/mean", "/log_std")) for name, _ in wrapped.named_parameters())


def test_mean_field_has_the_modules_mode_and_no_buffers() -> None:
    with pytest.raises(ExpungeError, match="a module with buffers"):
        MeanField(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))
    drops = MeanField(nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)))
    x = torch.ones(3, 4)
    with evaluating(drops):
        torch.testing.assert_close(drops(x), drops(x), rtol=0, atol=0)
    assert not torch.equal(drops(x), drops(x))  # in training mode again


def test_mistakes_are_told_before_anything_is_learned(digits: list[Task], network: Any) -> None:
    with pytest.raises(ConfigError, match="memory is 0"):
        Learner.build({"objective": OBJECTIVES["er"], "memory": 0})
    with pytest.raises(ConfigError, match="momentum of its own"):
        Learner.build({"optimizer": "adam", "momentum": 0.9})
    with pytest.raises(ExpungeError, match="without a task"):
        learn(network(0), [], BASE)
    strange = Task(digits[0].train, Samples(digits[0].test.inputs, digits[0].test.labels + 7), (0, 1))
    with pytest.raises(ExpungeError, match=r"labels \[0, 1, 7, 8\]"):
        learn(network(0), [strange], BASE)
    with pytest.raises(ExpungeError, match="go on where the last"):
        learn(network(0), digits[1:], with_objective("lwf"))
    half = [Task(Samples(t.train.inputs.bfloat16(), t.train.labels), t.test, t.classes) for t in digits[:1]]
    with pytest.raises(UserError, match="bfloat16"):
        learn(network(0).bfloat16(), half, BASE.model_copy(update={"refresh": Refresh()}))
    with pytest.raises(TrainingError, match="loss is not finite at step"):
        learn(network(0), digits[:1], BASE.model_copy(update={"learning_rate": 1e30, "epochs": 40}))


def test_a_penalty_can_be_put_on_any_method(digits: list[Task], network: Any) -> None:
    plain, _ = told(with_objective("er"), digits[:2], network)
    both, _ = told(BASE.model_copy(update={"objective": OBJECTIVES["er"].with_term(CPR)}), digits[:2], network)
    assert both.class_incremental.final_average > 0.5
    assert both.class_incremental != plain.class_incremental
