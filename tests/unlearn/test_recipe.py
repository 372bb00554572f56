"""A recipe edits its scope and nothing else, resumes to the same bits, and says what is wrong before it computes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from expunge.errors import ConfigError, ExpungeError, TrainingError, UserError
from expunge.models.hashing import tensors_hash
from expunge.models.patch import Patch
from expunge.records import Request
from expunge.train import SERIES, thinned
from expunge.unlearn.adversary import SoftAdversary
from expunge.unlearn.context import Stream, TrainContext
from expunge.unlearn.keep import MatchTeacher
from expunge.unlearn.objective import Steer, Term
from expunge.unlearn.presets.esd import ESD, ESD_FAST
from expunge.unlearn.recipe import Recipe
from expunge.unlearn.refreshed import Refreshed
from expunge.unlearn.source import EditedTrajectory, FrozenTrajectory

REQUEST = Request(concept="church", prompts=("a church on a hill", "a church"), keep=("a house by the sea",))
SMALL = Recipe(source=FrozenTrajectory(grid=4, trajectories=3), steps=4, batch=2, learning_rate=1e-3)


def everything(model: Any) -> dict[str, Tensor]:
    return {name: tensor.clone() for part in ("unet", "text_encoder", "vae")
            for name, tensor in model.components[part].state_dict(prefix=f"{part}/").items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("scope", ["xattn", "noxattn", "unet", "text"])
def test_edit_touches_only_its_scope_and_leaves_the_model_as_it_was(model: Any, scope: str) -> None:
    before = everything(model)
    patch = SMALL.override({"scope": scope, "steps": 2})(model, REQUEST)
    inside = model.parameters_in(scope)
    assert patch.tensors
    assert set(patch.tensors) <= set(inside)
    assert same(everything(model), before)
    assert not any(p.requires_grad or p.grad is not None for p in inside.values())
    moved = [name for name, value in patch.tensors.items() if not torch.equal(value, inside[name])]
    assert len(moved) == len(patch.tensors)


def test_loss_falls(model: Any) -> None:
    losses = SMALL.override({"steps": 16, "batch": 4})(model, REQUEST).card.losses["erase"]
    assert sum(losses[-4:]) < 0.8 * sum(losses[:4])


def test_same_seed_same_weights_and_another_seed_others(model: Any) -> None:
    first, again, other = (SMALL(model, REQUEST, seed=seed) for seed in (3, 3, 4))
    assert same(dict(first.tensors), dict(again.tensors))
    assert first.hash == again.hash != other.hash


class Stop(Exception):
    """What a test throws in the middle of a run."""


@pytest.mark.parametrize("changes", [
    {},
    {"keep": "match", "keep.source.grid": 4, "keep.source.trajectories": 2},
    {"keep": "match", "keep.cadence": "between", "keep.steps": 2, "keep.source.fresh": True, "keep.source.grid": 3},
    {"source": "edited", "source.grid": 3, "warmup": 4},
    {"scope": "text"},
], ids=["plain", "keep beside", "keep between", "edited source", "text encoder"])
def test_stopped_run_ends_at_the_same_bits(model: Any, tmp_path: Path, changes: dict[str, Any]) -> None:
    recipe = SMALL.override({"steps": 5, "checkpoint_every": 0.0, **changes})
    whole = recipe(model, REQUEST, seed=1)
    checkpoint, before, told = tmp_path / "run.safetensors", everything(model), []

    def stop(done: int, total: int, losses: dict[str, float]) -> None:
        if losses and done == 4:
            raise Stop

    with pytest.raises(Stop):
        recipe(model, REQUEST, seed=1, checkpoint=checkpoint, progress=stop)
    assert checkpoint.exists()
    assert same(everything(model), before)
    resumed = recipe(model, REQUEST, seed=1, checkpoint=checkpoint,
                     progress=lambda done, total, losses: told.append(done) if losses else None)
    assert told == [4, 5]  # steps 1 to 3 came from the checkpoint
    assert same(dict(resumed.tensors), dict(whole.tensors))
    assert resumed.card.losses == whole.card.losses


@pytest.mark.parametrize("changes", [{}, {"lora_rank": 2}, {"source": "edited", "source.grid": 3}],
                         ids=["whole", "lora", "nothing drawn before the first step"])
def test_a_run_that_was_killed_after_its_last_step_ends_at_the_same_bits(model: Any, tmp_path: Path,
                                                                         changes: dict[str, Any]) -> None:
    recipe, checkpoint = SMALL.override(changes), tmp_path / "run.safetensors"
    whole = recipe(model, REQUEST, seed=1, checkpoint=checkpoint)
    assert checkpoint.exists()  # whoever writes the patch deletes it
    assert same(dict(recipe(model, REQUEST, seed=1, checkpoint=checkpoint).tensors), dict(whole.tensors))


def test_seconds_of_a_resumed_run_are_those_of_all_sessions(model: Any, tmp_path: Path,
                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, checkpoint, clock = SMALL.override({"checkpoint_every": 0.0}), tmp_path / "run.safetensors", [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])

    def tick(done: int, total: int, losses: dict[str, float]) -> None:
        clock[0] += 10.0  # every call, also those while the pool is drawn
        if losses and done == stop:
            raise Stop

    stop = 3
    with pytest.raises(Stop):
        recipe(model, REQUEST, checkpoint=checkpoint, progress=tick)
    kept, stop = clock[0] - 10, 0  # the last checkpoint is that of step 2
    clock[0] = 1000.0
    assert recipe(model, REQUEST, checkpoint=checkpoint, progress=tick).card.seconds == kept + clock[0] - 1000


def test_parts_that_keep_things_under_one_name_are_refused(model: Any) -> None:
    class Clash(SoftAdversary):
        def prepare(self, context: TrainContext, stream: Stream, batch: int) -> Any:
            attacker = super().prepare(context, stream, batch)
            attacker.optimizers = {"adam": torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)}
            return attacker

    with pytest.raises(ExpungeError, match="under the name 'adam'"):
        SMALL.model_copy(update={"adversary": Clash(warmup=0)})(model, REQUEST)


def test_interrupt_leaves_the_model_as_it_was(model: Any) -> None:
    before = everything(model)

    def interrupt(done: int, total: int, losses: dict[str, float]) -> None:
        if losses:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        SMALL(model, REQUEST, progress=interrupt)
    assert same(everything(model), before)


def test_checkpoint_of_another_run_is_refused(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SMALL(model, REQUEST, seed=1, checkpoint=tmp_path / "run.safetensors")
    for recipe, request, seed in ((SMALL.override({"objective.eta": 2}), REQUEST, 1), (SMALL, REQUEST, 2),
                                  (SMALL, REQUEST.model_copy(update={"prompts": ("a church",)}), 1)):
        told: list[int] = []
        with pytest.raises(ConfigError, match="other settings"):
            recipe(model, request, seed=seed, checkpoint=tmp_path / "run.safetensors",
                   progress=lambda done, *_, told=told: told.append(done))
        assert told == []  # before any pool is drawn
    monkeypatch.setattr(model.process.schedule, "description", "some other schedule")
    with pytest.raises(ConfigError, match="other settings"):
        SMALL(model, REQUEST, seed=1, checkpoint=tmp_path / "run.safetensors")


def test_keep_holds_the_kept_prompt_closer_to_the_teacher(model: Any) -> None:
    keep = MatchTeacher(weight=20.0, batch=4, source=FrozenTrajectory(grid=4, trajectories=4))
    recipe = SMALL.override({"steps": 20, "learning_rate": 1e-4})

    def drift(patch: Patch) -> float:
        with torch.no_grad():
            x, t, cond = model.initial_noise([99] * 2), torch.tensor([700, 300]), model.encode(REQUEST.keep * 2)
            original = model.predict(x, t, cond)
            model.apply(patch)
            edited = model.predict(x, t, cond)
            model.remove()
        return float((edited - original).square().mean())

    held, free = recipe.model_copy(update={"keep": keep}), recipe
    assert drift(held(model, REQUEST)) < 0.5 * drift(free(model, REQUEST))


def test_keep_loss_is_the_distance_to_the_teacher_on_kept_and_empty_prompts(model: Any) -> None:
    context = TrainContext(model, model.frozen_copy(), REQUEST, 0)
    keep = MatchTeacher(weight=3.0, batch=6, source=FrozenTrajectory(grid=4, trajectories=4))
    term, points = keep.prepare(context), keep.source.open(context, ("", *REQUEST.keep), 6, "keep").draw(2)
    assert set(points.prompts) == {"", *REQUEST.keep}
    assert float(term.loss(2).detach()) < 1e-8
    with torch.no_grad():
        for parameter in model.parameters_in("xattn").values():
            parameter.mul_(1.5)
        out, wanted = (at.predict(points.x_t, points.t, points.cond) for at in (model, context.teacher))
        torch.testing.assert_close(term.loss(2), 3.0 * (out - wanted).square().mean(), rtol=1e-3, atol=1e-8)


def test_adversary_slot_changes_the_result_and_is_told_in_the_card(model: Any) -> None:
    attacked = SMALL.override({"adversary": "soft", "adversary.steps": 2, "adversary.warmup": 1})
    patch = attacked(model, REQUEST)
    assert patch.hash != SMALL(model, REQUEST).hash
    assert Recipe.build(patch.card.settings) == attacked
    assert len(patch.card.losses["attack"]) == attacked.steps - 1


def test_card_tells_everything_and_rebuilds_the_recipe(model: Any, tmp_path: Path) -> None:
    recipe = SMALL.override({"keep": "match", "keep.source": "edited", "keep.source.grid": 3,
                              "update.max_grad_norm": 1})
    patch = recipe(model, REQUEST, seed=7)
    card = Patch.load(patch.save(tmp_path)).card
    assert Recipe.build(card.settings) == recipe
    assert (card.request, card.seed, card.steps, card.base_hash) == (REQUEST, 7, 4, model.hash)
    assert card.base_process == model.process.description
    assert set(card.losses) == {"erase", "keep"}
    assert len(card.losses["erase"]) == 4
    assert card.tensors_hash == tensors_hash(patch.tensors)
    assert card.seconds > 0
    assert "torch" in card.versions


def test_long_series_are_thinned_with_both_ends() -> None:
    series = thinned([{"erase": float(i)} for i in range(1000)])["erase"]
    assert len(series) == SERIES
    assert (series[0], series[-1]) == (0.0, 999.0)
    assert thinned([{"erase": 1.0}]) == {"erase": [1.0]}


def test_divergence_is_a_training_error_and_leaves_the_model_as_it_was(model: Any) -> None:
    before = everything(model)
    with pytest.raises(TrainingError, match="not finite"):
        SMALL.override({"learning_rate": 1e30, "steps": 10})(model, REQUEST)
    assert same(everything(model), before)


def test_what_does_not_fit_is_told_before_anything_is_computed(model: Any) -> None:
    calls: list[int] = []

    def watch(*told: Any) -> None:
        calls.append(1)

    with pytest.raises(UserError, match="xattn"):
        SMALL.override({"scope": "cross"})(model, REQUEST, progress=watch)
    long = "a church " * 30
    for request in (REQUEST.model_copy(update={"prompts": ("a church", long)}),
                    REQUEST.model_copy(update={"keep": (long,)}),
                    REQUEST.model_copy(update={"anchor": long})):
        with pytest.raises(UserError, match="tokens"):
            SMALL(model, request, progress=watch)
    model.apply(SMALL(model, REQUEST))
    with pytest.raises(UserError, match="patch"):
        SMALL(model, REQUEST, progress=watch)
    assert not calls


def test_weights_in_float16_are_refused_with_the_type_that_trains(pipeline_folder: Path) -> None:
    from expunge.models.store import load

    with pytest.raises(UserError, match=r"training with weights in float16.*; accepted: float32 or bfloat16"):
        SMALL(load(pipeline_folder, device="cpu", dtype="float16"), REQUEST)


def test_overrides_reach_inside_and_change_kinds() -> None:
    recipe = ESD.override({"objective.eta": 2, "source": "edited", "keep.weight": 0.3, "scope": "noxattn"})
    assert recipe.objective == Steer(eta=2)
    assert recipe.source == EditedTrajectory()
    assert recipe.keep == MatchTeacher(weight=0.3)
    assert recipe.scope == "noxattn"
    assert ESD_FAST.override({"source": {"grid": 7}}).source.guidance == 2.0
    assert recipe.override({"keep": None}).keep is None


def test_every_mistake_in_settings_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        ESD.override(dict(stepz=3, batch=0, **{"objective.etaa": 1, "source.grid": -1, "source.guidance": "much"}))
    for word in ("stepz", "batch", "etaa", "grid", "guidance"):
        assert word in str(caught.value)


def test_what_a_run_needs_is_checked_without_encoding_anything(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("encoded")

    monkeypatch.setattr(model, "encode", never)
    assert SMALL.check(model, REQUEST)
    with pytest.raises(UserError, match="tokens"):
        SMALL.check(model, REQUEST.model_copy(update={"prompts": ("a church and " * 12,)}))


SEEN: list[str] = []


class Watched(Steer):
    """Steer that writes down what the loop asks of it."""

    kind: Literal["watched"] = "watched"  # type: ignore[assignment]

    def prepare(self, context: TrainContext, stream: Any, attacker: Any) -> Term:
        term = super().prepare(context, stream, attacker)

        def loss(number: int) -> Tensor:
            SEEN.append(f"loss {number}")
            return term.loss(number)

        return replace(term, loss=loss, begin=lambda number: SEEN.append(f"begin {number}"))


def test_every_step_begins_once_before_its_losses_however_often_these_are_asked_for(model: Any) -> None:
    SEEN.clear()
    recipe = SMALL.model_copy(update={"objective": Watched(), "steps": 2, "update": Refreshed()})
    recipe(model, REQUEST)
    assert ["begin 0", *["loss 0"] * SEEN.count("loss 0"), "begin 1", "loss 1"] == SEEN
    assert SEEN.count("loss 0") == 2
