"""Edits of text encoders alone: where the concept's states go, what stays, and that no denoiser is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from expunge.errors import ConfigError
from expunge.models.model import applied
from expunge.records import Request
from expunge.unlearn.adversary import SoftAdversary
from expunge.unlearn.bank import BankAdversary
from expunge.unlearn.context import TrainContext
from expunge.unlearn.recipe import Recipe
from expunge.unlearn.source import FrozenTrajectory
from expunge.unlearn.states import HoldStates, States, distance
from expunge.unlearn.texts import Texts
from expunge.unlearn.union import Union

REQUEST = Request(concept="church", prompts=("a church on a hill", "a church"), anchor="house",
                  keep=("a picture of a dog", "the knife of a chef"))
SMALL = Recipe(source=Texts(), objective=States(), scope="text", keep=HoldStates(batch=3), steps=40, batch=2,
               learning_rate=3e-3)


def states(model: Any, text: str) -> torch.Tensor:
    with torch.no_grad():
        return model.encode([text]).states  # type: ignore[no-any-return]


@pytest.mark.parametrize("towards", ["anchor", "empty", "random", "judged"])
def test_the_concepts_states_go_there_and_others_stay(model: Any, towards: str, monkeypatch: pytest.MonkeyPatch
                                                      ) -> None:
    def refuse(*args: Any) -> Any:
        raise AssertionError("the denoiser was asked")

    before = {text: states(model, text) for text in (*REQUEST.prompts, *REQUEST.keep, "a house", "")}
    with monkeypatch.context() as patched:
        patched.setattr(model.network, "forward", refuse)
        patch = SMALL.override({"objective.towards": towards})(model, REQUEST)
    assert all(name.startswith("text_encoder/") for name in patch.tensors)
    with applied(model, patch):
        moved, kept = (max(float((states(model, text) - before[text]).norm()) for text in texts)
                       for texts in (("a church",), REQUEST.keep))
        nearer = {"anchor": "a house", "empty": ""}.get(towards)
        if nearer is not None:
            assert (states(model, "a church") - before[nearer]).norm() < (before["a church"] - before[nearer]).norm()
    assert moved > 1.5 * kept


def test_targets_by_hand(model: Any) -> None:
    context = TrainContext(model, model.frozen_copy(), REQUEST, 0, text_trains=True)
    stream = Texts().open(context, REQUEST.prompts, 2, "erase")
    points = stream.draw(0)
    own, empty = points.cond.states, states(model, "")
    wanted = {"anchor": torch.cat([states(model, text.replace("church", "house")) for text in points.prompts]),
              "empty": empty.expand_as(own)}
    for towards, base in wanted.items():
        for shift in (0.0, 0.5):
            got = States(towards=towards, shift=shift)._target(context, empty)(points)  # type: ignore[arg-type]
            torch.testing.assert_close(got, base - shift * (own - empty), rtol=1e-4, atol=1e-5)
    random = States(towards="random")._target(context, empty)(points)
    torch.testing.assert_close(random.norm(dim=-1), own.norm(dim=-1), rtol=1e-4, atol=1e-5)


def test_distances_by_hand() -> None:
    a, b = torch.tensor([[[3.0, 0.0]]]), torch.tensor([[[0.0, 4.0]]])
    assert float(distance("squared", a, b)) == 12.5
    assert float(distance("cosine", a, b)) == pytest.approx(1.0)
    assert float(distance("cosine", a, 2 * a)) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(("changes", "wanted"), [
    ({"scope": "xattn"}, "a scope of text encoders"),
    ({"adversary": SoftAdversary(steps=1)}, "a source of latents"),
    ({"adversary": SoftAdversary(steps=1), "source": Union(sources=(FrozenTrajectory(), Texts()))},
     "a source of latents"),
    ({"adversary": BankAdversary(), "source": FrozenTrajectory()}, "such as soft")])
def test_what_would_train_or_attack_nothing_is_refused(model: Any, changes: dict[str, Any], wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted):
        SMALL.model_copy(update=changes).check(model, REQUEST)


def test_to_the_opposite_states_turn_around_the_empty_prompts(model: Any) -> None:
    empty = states(model, "")
    before = (states(model, "a church") - empty).flatten()
    context = TrainContext(model, model.frozen_copy(), REQUEST, 0, text_trains=True)
    loss = States(towards="opposite").prepare(context, Texts().open(context, REQUEST.prompts, 2, "erase"), None).loss(0)
    assert float(loss) == pytest.approx(2.0, abs=1e-5)
    patch = SMALL.override({"objective.towards": "opposite", "steps": 80})(model, REQUEST)
    with applied(model, patch):
        assert float(torch.cosine_similarity((states(model, "a church") - empty).flatten(), before, 0)) < 0.5


@pytest.mark.parametrize("towards", ["anchor", "judged", "opposite"])
def test_under_attack_the_encoder_is_told_what_was_found(model: Any, towards: str) -> None:
    attacked = SMALL.override({
        "objective.towards": towards, "source": {"kind": "frozen", "grid": 2, "trajectories": 2}, "steps": 3,
        "adversary": {"kind": "soft", "steps": 2, "warmup": 0, "vectors": "shared", "step_size": 0.5}})
    told, plain = attacked(model, REQUEST), attacked.model_copy(update={"adversary": None})(model, REQUEST)
    assert "attack" in told.card.losses
    assert told.hash != plain.hash


def test_a_game_that_was_killed_ends_at_the_same_weights(model: Any, tmp_path: Path) -> None:
    def killed(done: int, total: int, losses: Any) -> None:
        if losses and done == 3:
            raise KeyboardInterrupt

    own = SMALL.override({"objective.towards": "judged", "steps": 5, "checkpoint_every": 0.0})
    whole = own(model, REQUEST, seed=1)
    with pytest.raises(KeyboardInterrupt):
        own(model, REQUEST, seed=1, checkpoint=tmp_path / "c.safetensors", progress=killed)
    again = own(model, REQUEST, seed=1, checkpoint=tmp_path / "c.safetensors")
    assert {name: value.tolist() for name, value in again.tensors.items()} == \
        {name: value.tolist() for name, value in whole.tensors.items()}


@pytest.mark.parametrize("towards", ["opposite", "judged"])
@pytest.mark.parametrize("idle", [{"shift": 2.0}, {"measure": "cosine"}])
def test_what_a_way_makes_no_use_of_is_refused(towards: str, idle: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="makes no use of it"):
        States(towards=towards, **idle)
