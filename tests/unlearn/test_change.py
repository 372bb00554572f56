"""A change is made in one model: the teacher is its networks without the change, bit for bit, in any number type."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_recipe import REQUEST, SMALL, everything, same

from expunge.errors import ExpungeError, UserError
from expunge.models.model import Model
from expunge.models.patch import Patch
from expunge.models.store import load
from expunge.unlearn.change import checkpointed, whole
from expunge.unlearn.context import TrainContext
from expunge.unlearn.objective import Steer
from expunge.unlearn.source import FrozenTrajectory
from pipelines_of_families import BUILDERS, built, taken

HALF = "bfloat16"


@pytest.fixture
def half(pipeline_folder: Path) -> Model:
    return load(pipeline_folder, device="cpu", dtype=HALF)


def answered(model: Model) -> torch.Tensor:
    with torch.no_grad():
        x = model.initial_noise([1, 2])
        return model.predict(x, torch.tensor([7.0, 3.0]), model.encode(["a church", ""]))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny", HALF, *BUILDERS])
@pytest.mark.parametrize("scope", ["unet", "text"])
def test_the_teacher_is_the_untouched_model_bit_for_bit_while_the_student_moves(
        name: str, scope: str, pipeline_folder: Path) -> None:
    model = load(pipeline_folder, device="cpu", dtype=HALF if name == HALF else "float32") \
        if name in ("tiny", HALF) else taken(built(name), **({} if name.startswith("sdxl") else {"length": 24}))
    before = answered(model)
    with whole(model, model.parameters_in(scope)) as change:
        teacher = change.teacher(model)
        assert torch.equal(answered(teacher), before)
        assert torch.equal(answered(model), before)
        with torch.no_grad():
            for p in change.params.values():
                p.mul_(1.5)
        assert torch.equal(answered(teacher), before)
        assert not torch.equal(answered(model), before)
        with pytest.raises(ExpungeError, match="a copy of a teacher"):
            teacher.frozen_copy()
    assert torch.equal(answered(model), before)


def test_a_teacher_that_is_asked_between_forward_and_backward_changes_no_gradient(model: Any) -> None:
    with whole(model, model.parameters_in("unet")) as change:
        x, t, cond = model.initial_noise([1]), torch.tensor([5.0]), model.encode(["a church"])
        teacher, params = change.teacher(model), [*change.params.values()]
        with torch.no_grad():
            params[0].add_(0.1)
        plain = torch.autograd.grad(model.predict(x, t, cond).square().sum(), params)
        out = model.predict(x, t, cond)
        told = teacher.predict(x, t, cond)
        assert not told.requires_grad
        between = torch.autograd.grad(out.square().sum(), params)
    assert all(torch.equal(a, b) for a, b in zip(plain, between, strict=True))


def test_the_loss_without_a_step_away_is_exactly_zero_at_the_beginning(half: Model) -> None:
    with whole(half, half.parameters_in("xattn")) as change:
        context = TrainContext(half, change.teacher(half), REQUEST.model_copy(update={"prompts": ("",)}), 0)
        stream = FrozenTrajectory(grid=3, trajectories=2).open(context, ("",), 2, "erase")
        assert float(Steer(eta=0.0).prepare(context, stream, None).loss(0).detach()) == 0.0


def test_a_layer_that_is_never_called_is_told_and_not_trained_beside_itself(model: Any) -> None:
    with whole(model, model.parameters_in("xattn")) as change, torch.no_grad():
        next(iter(change.params.values())).add_(1.0)
        with pytest.raises(ExpungeError, match="is used without its layer being called"):
            change.made()


def test_masters_alone_are_in_float32_and_the_patch_is_in_the_types_of_its_weights(half: Model) -> None:
    before = everything(half)
    with whole(half, half.parameters_in("xattn")) as change:
        assert {p.dtype for p in change.params.values()} == {torch.float32}
        assert {p.dtype for p in half.parameters_of("denoiser", "text", "autoencoder").values()} == {torch.bfloat16}
        assert sum(p.requires_grad for p in half.network.parameters()) == 0
    patch = SMALL(half, REQUEST)
    assert patch.card.dtype == HALF
    assert {value.dtype for value in patch.tensors.values()} == {torch.bfloat16}
    assert same(everything(half), before)


def test_a_patch_in_bfloat16_is_bfloat16_on_disk_and_goes_on_and_off(half: Model, tmp_path: Path, model: Any) -> None:
    patch = SMALL(half, REQUEST)
    again = Patch.load(patch.save(tmp_path))
    assert again.card == patch.card
    assert same(dict(again.tensors), dict(patch.tensors))
    before = everything(half)
    half.apply(again)
    assert all(torch.equal(half.editable()[name], value) for name, value in again.tensors.items())
    half.remove()
    assert same(everything(half), before)
    model.apply(again)  # the same files, opened in float32
    model.remove()


@pytest.mark.slow
def test_a_run_in_bfloat16_that_was_cut_off_ends_at_the_same_weights(half: Model, tmp_path: Path) -> None:
    slow = SMALL.override({"steps": 8, "checkpoint_every": 0.0})
    straight = slow(half, REQUEST)

    def stop(done: int, total: int, losses: Any) -> None:
        if losses and done == 3:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        slow(half, REQUEST, checkpoint=tmp_path / "c.safetensors", progress=stop)
    assert slow(half, REQUEST, checkpoint=tmp_path / "c.safetensors").hash == straight.hash


@pytest.mark.slow
def test_training_in_bfloat16_lowers_the_loss_as_in_float32(half: Model, model: Any) -> None:
    longer = SMALL.override({"steps": 16, "batch": 4})
    for one in (half, model):
        losses = longer(one, REQUEST).card.losses["erase"]
        assert sum(losses[-4:]) < 0.8 * sum(losses[:4])


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{}, {"lora_rank": 2}])
@pytest.mark.parametrize("dtype", ["float32", HALF])
def test_checkpointing_changes_no_bit_of_a_patch(pipeline_folder: Path, settings: dict[str, int], dtype: str) -> None:
    model = load(pipeline_folder, device="cpu", dtype=dtype)
    plain, low = (SMALL.override({**settings, "checkpointing": on}) for on in (False, True))
    assert plain(model, REQUEST).hash == low(model, REQUEST).hash
    params = model.parameters_in("xattn")
    kept = [one.footprint(model, params).parts["activations"] for one in (plain, low)]
    assert kept[1] < 0.6 * kept[0]


def test_a_network_that_cannot_checkpoint_is_refused_before_anything_is_computed() -> None:
    with pytest.raises(UserError, match="checkpointing of a Linear"), checkpointed(torch.nn.Linear(1, 1), True):
        pass
