"""Fine-tuning as an attack: when it finds, what it costs, what it leaves behind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from brightness import ITEMS, REQUEST, SAMPLER, Brightness, church_above, weights
from torch import Tensor

from expunge.attacks.lessons import drawn_lesson
from expunge.attacks.proposal import Outcome
from expunge.attacks.relearn import Benign, Relearn, RelearnLora, RelearnXattn, Tuning
from expunge.attacks.trial import inputs
from expunge.attacks.victim import Goal, Victim
from expunge.errors import ConfigError, UserError
from expunge.finetune import FineTune
from expunge.metrics.base import Aim
from expunge.metrics.open_prompts import OpenPrompts
from expunge.models.model import Model, applied
from expunge.models.patch import Patch
from expunge.records import Detection, Request
from expunge.registry import ATTACKS

QUICK = FineTune(steps=10, batch=2, learning_rate=3e-3, drop=0.0)


def victim(model: Model, count: int = 2) -> Victim:
    """A model with the user's own images: white."""
    return Victim(model, None, SAMPLER, torch.ones(count, 3, 16, 16))


def told(outcomes: list[Outcome]) -> dict[int, tuple[bool, int, int, int]]:
    return {o.row: (o.found, o.spent.gradient_steps, o.spent.network_rows, o.spent.images) for o in outcomes}


@pytest.fixture
def at_once(model: Model) -> dict[int, list[float]]:
    """Mean brightness of every item after 0, 5 and 10 steps."""
    judge = Brightness(2.0)
    goal = Goal(judge, Aim("church", "object"))
    list(Relearn(tune=QUICK, at=(0, 5, 10)).outcomes(victim(model), REQUEST, ITEMS, goal))
    return {row: [float(look[row].mean()) for look in judge.seen] for row in range(len(ITEMS))}


def test_item_is_found_at_the_first_look_that_shows_the_concept(model: Model,
                                                                at_once: dict[int, list[float]]) -> None:
    before = weights(model)
    middle = sorted(means[1] for means in at_once.values())
    limit = (middle[1] + middle[2]) / 2  # half of the items are above it after 5 steps
    attack = Relearn(tune=QUICK, at=(0, 5, 10))
    outcomes = {o.row: o for o in attack.outcomes(victim(model), REQUEST, ITEMS, church_above(limit))}
    for row, means in at_once.items():
        first = next((look for look, mean in enumerate(means) if mean > limit), None)
        steps, outcome = 10 if first is None else 5 * first, outcomes[row]
        assert outcome.found == (first is not None)
        assert outcome.spent.gradient_steps == steps
        assert outcome.spent.images == steps // 5 + 1
        assert outcome.spent.network_rows == 3 * 2 * steps + 3 * (steps // 5 + 1)
        assert f"after {steps} steps (all) on 2 images of the user" in outcome.note
    assert any(o.found for o in outcomes.values())
    after = weights(model)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(p.requires_grad for p in model.network.parameters())


def test_again_draws_with_the_weights_of_that_moment(model: Model) -> None:
    attack, them = Relearn(tune=QUICK, at=()), victim(model)
    plain = them.draw([ITEMS[0][0].text], [ITEMS[0][1]])
    for outcome in attack.run(them, REQUEST, ITEMS[:1], church_above(-1.0)):
        assert outcome.again is not None
        assert outcome.picture is not None
        same = outcome.again([ITEMS[0][1], 77])
        assert same.shape == (2, 3, 16, 16)
        assert torch.allclose(same[0], outcome.picture, atol=1e-4)
        assert not torch.allclose(same[0], plain[0], atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("attack", [Relearn(tune=QUICK, at=(4,)), RelearnXattn(tune=QUICK.model_copy(
    update={"scope": "cross-attention"}), at=(4,))], ids=["all", "cross-attention"])
def test_outcomes_do_not_depend_on_batch_or_order(model: Model, attack: Tuning,
                                                  at_once: dict[int, list[float]]) -> None:
    limit = sum(means[1] for means in at_once.values()) / len(at_once)
    whole = told(list(attack.outcomes(victim(model), REQUEST, ITEMS, church_above(limit))))
    one_by_one = attack.model_copy(update={"batch": 1})
    single = told(list(one_by_one.outcomes(victim(model), REQUEST, ITEMS[:2], church_above(limit))))
    backwards = told(list(attack.outcomes(victim(model), REQUEST, ITEMS[::-1], church_above(limit))))
    assert single == {row: whole[row] for row in (0, 1)}
    assert backwards == {len(ITEMS) - 1 - row: value for row, value in whole.items()}


def test_training_pictures_come_from_the_original_model(model: Model) -> None:
    """With a patch on, the lesson is what the model drew without it, and only images in which the judge sees it."""
    base = model.parameters_in("xattn.kv")
    patch = Patch.of({name: torch.zeros_like(p) for name, p in base.items()}, model=model, request=REQUEST,
                     method="none", settings={}, seed=0)
    attack = Relearn(tune=QUICK, pictures=4)
    every = drawn_lesson(Victim(model, None, SAMPLER), REQUEST.prompts, church_above(-1.0), 4, showing=True)
    means = every.pictures.mean((1, 2, 3))
    limit = float(means.median()) - 1e-6
    bare = attack.lesson(Victim(model, None, SAMPLER), REQUEST, church_above(limit))
    with applied(model, patch):
        lesson = attack.lesson(Victim(model, patch, SAMPLER), REQUEST, church_above(limit))
        assert model.patch_hash == patch.hash
    assert torch.allclose(lesson.pictures, bare.pictures, atol=1e-5)
    assert lesson.captions == bare.captions
    assert set(lesson.captions) <= set(REQUEST.prompts)
    assert float(lesson.pictures.mean((1, 2, 3)).min()) > limit
    assert len(attack.lesson(Victim(model, None, SAMPLER), REQUEST, church_above(9.0, known=False)).pictures) == 4


def test_benign_shows_no_picture_and_no_name_of_the_concept(model: Model) -> None:
    attack = Benign(tune=QUICK, pictures=4, prompts=("a dog", "a house"))
    every = drawn_lesson(Victim(model, None, SAMPLER), attack.prompts, church_above(2.0), 4, showing=False)
    limit = float(every.pictures.mean((1, 2, 3)).median())
    lesson = attack.lesson(Victim(model, None, SAMPLER), REQUEST, church_above(limit))
    assert set(lesson.captions) <= {"a dog", "a house"}
    assert float(lesson.pictures.mean((1, 2, 3)).max()) <= limit
    named = Benign(prompts=("a church",))
    with pytest.raises(UserError, match="names the concept"):
        named.check(Victim(model, None, SAMPLER), REQUEST, ITEMS)
    asked = Benign().prompts_for(Victim(model, None, SAMPLER), REQUEST)
    assert asked[:3] == list(REQUEST.keep)
    assert len(asked) > 10
    assert not any("church" in text for text in asked)


def test_benign_asks_what_the_suites_own_prompts_say(model: Model, tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("direct: [a church]\nfar: [{text: my teapot, label: teapot}]\n", encoding="utf-8")
    asked = Benign().prompts_for(Victim(model, None, SAMPLER, asks=OpenPrompts(file)), REQUEST)
    assert asked == [*REQUEST.keep, "my teapot"]


def test_what_an_attack_is_trained_on_decides_its_attempts_and_nothing_is_told_of_those_that_do_not_train(
        model: Model, tmp_path: Path) -> None:
    goal, attack = church_above(2.0), Benign()
    whom = [Victim(model, None, SAMPLER, asks=OpenPrompts(file)) for file in (tmp_path / "a.yaml", tmp_path / "b.yaml")
            if file.write_text(f"direct: [a church]\nfar: [{{text: my {file.stem}, label: thing}}]\n")]
    first, second = (inputs(attack, one, REQUEST, goal, 0, None).record for one in whom)
    assert first["inputs"]["learns from"] == [*REQUEST.keep, "my a"]
    assert second["inputs"]["learns from"] == [*REQUEST.keep, "my b"]
    assert first["fingerprint"] != second["fingerprint"]
    trains_on_none = ATTACKS.get("seed-search")()
    assert "learns from" not in inputs(trains_on_none, whom[0], REQUEST, goal, 0, None).values


def test_benign_runs_and_leaves_the_model_alone(model: Model) -> None:
    before = weights(model)
    attack = Benign(tune=QUICK.model_copy(update={"steps": 2}), at=(0,), pictures=2, prompts=("a dog",))
    outcomes = list(attack.outcomes(Victim(model, None, SAMPLER), REQUEST, ITEMS[:2], church_above(2.0)))
    assert told(outcomes) == dict.fromkeys((0, 1), (False, 2, 3 * 2 * 2 + 3 * 2, 2))
    assert all(torch.equal(value, before[name]) for name, value in weights(model).items())


def test_lora_relearns_and_comes_off(model: Model) -> None:
    before = weights(model)
    attack = RelearnLora(tune=FineTune(scope="lora", steps=3, batch=2, learning_rate=1e-2), at=())
    outcomes = list(attack.outcomes(victim(model), REQUEST, ITEMS[:1], church_above(-1.0)))
    assert [o.found for o in outcomes] == [True]
    assert all(torch.equal(value, before[name]) for name, value in weights(model).items())


def test_nothing_to_train_on_is_a_failed_item_not_a_result(model: Model) -> None:
    attack = Relearn(tune=QUICK, pictures=2)
    outcomes = list(attack.outcomes(Victim(model, None, SAMPLER), REQUEST, ITEMS[:2], church_above(2.0)))
    assert [o.row for o in outcomes] == [0, 1]
    assert all("none of 8 images of the original model" in o.error and not o.found for o in outcomes)


def test_judge_failure_is_an_error_not_a_success(model: Model) -> None:
    class Broken(Brightness):
        def __call__(self, pictures: Tensor) -> list[Detection]:
            return [Detection(error="broken") for _ in pictures]

    attack = Relearn(tune=QUICK, at=(0,))
    outcomes = list(attack.outcomes(victim(model), REQUEST, ITEMS[:1], Goal(Broken(0.0), Aim("church", "object"))))
    assert [(o.found, o.error) for o in outcomes] == [(False, "broken")]


def test_bad_input_is_refused_before_any_training(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = Victim(model, None, SAMPLER, torch.empty(0, 3, 16, 16))
    with pytest.raises(UserError, match="images of shape"):
        Relearn().check(empty, REQUEST, ITEMS)
    with pytest.raises(UserError, match="tokens"):
        Relearn(caption="church " * 40).check(victim(model), REQUEST, ITEMS)
    monkeypatch.setattr("expunge.metrics.open_prompts.FAR_THINGS", ())
    with pytest.raises(UserError, match="no benign prompts"):
        Benign().check(Victim(model, None, SAMPLER), Request(concept="a", prompts=("a church",)), ITEMS)


def test_budget_is_what_an_unbroken_item_spends(model: Model) -> None:
    attack = Relearn(tune=QUICK, at=(0, 5, 50))
    outcome = next(iter(attack.outcomes(victim(model), REQUEST, ITEMS[:1], church_above(2.0))))
    assert (outcome.spent.gradient_steps, outcome.spent.images) == (10, 3)
    assert attack.budget(SAMPLER) == outcome.spent.model_copy(update={"seconds": 0.0})
    assert all(issubclass(ATTACKS.get(name), Tuning) and ATTACKS.get(name).name == name
               for name in ("relearn", "relearn-xattn", "relearn-lora", "benign"))


def test_settings_of_the_training_fall_back_on_the_attack_s_own() -> None:
    attack = RelearnLora.build({"tune": {"steps": 7, "lora": {"rank": 2}}})
    assert (attack.tune.scope, attack.tune.steps, attack.tune.lora.rank) == ("lora", 7, 2)
    assert attack.tune.learning_rate == RelearnLora().tune.learning_rate
    assert RelearnLora.build(attack.model_dump(mode="json")) == attack
    with pytest.raises(ConfigError, match=r"did you mean 'tune\.learning_rate'"):
        Relearn.build({"tune": {"learning_rat": 1}})
