"""Patches on pipelines of plain diffusers, and whether a patch acts where it was put."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from expunge.errors import ModelError, UserError
from expunge.isolated import isolated
from expunge.models.conditioning import Conditioning
from expunge.models.hashing import tensors_hash
from expunge.models.model import Model, applied
from expunge.models.patch import Patch
from expunge.models.wrapped import answer, real_tensors, refresh_fused, unwrapped

_ON = "_expunge_patch"
"""A component's attribute that says which patch was put on it."""


@dataclass(frozen=True)
class _On:
    """A patch on a component: its hash, the tensors that it changed, and the hash of their values with the patch on."""

    patch: str
    tensors: Mapping[str, Tensor]
    values: str


def _patch_on(pipe: Any, parts: Mapping[str, Any]) -> str:
    """The hash of the patch that is on one of the pipeline's components; "" if there is none, or it was taken off."""
    everything = [*parts.values(), *getattr(pipe, "components", {}).values()]
    for part in (unwrapped(one) for one in everything if isinstance(one, torch.nn.Module)):
        mark = vars(part).get(_ON)
        if isinstance(mark, _On) and tensors_hash(mark.tensors) == mark.values:
            return mark.patch
    return ""


@isolated
@torch.no_grad()
def load_into_pipeline(pipe: Any, patch: Patch | str | Path) -> dict[str, float]:
    """Put a patch (or the one in a folder or file) on a diffusers pipeline, in place, and see that it acts.

    Adapters, compilation, fused projections and offloading are looked through (`models.wrapped`). Names and shapes are
    checked; that the weights are those of the patch's base is not.

    Returns:
        By component ("unet", "text_encoder") how much its output for fixed inputs changed: mean |difference| over mean
        |output|.

    A pipeline takes one patch. To take it off, load the pipeline anew; several edits are one patch if they are made one
    after the other (`run_sequence`) or together.

    Raises:
        ModelError: a tensor is not there, cannot be reached or has another shape, a patch is on already, or a
            component's output is the same as before; then the pipeline is as it was.
    """
    patch = Patch.load(patch) if isinstance(patch, str | Path) else patch
    if not isinstance(patch, Patch):
        raise UserError(f"{patch!r} as the patch", accepted="what expunge.erase or Patch.load returns, or its folder")
    components = sorted({full.partition("/")[0] for full in patch.tensors})
    parts: dict[str, Any] = {name: getattr(pipe, name, None) for name in components}
    gone = [name for name, part in parts.items() if part is None]
    if gone:
        raise ModelError(f"the patch changes the {gone[0]}, which this pipeline does not have",
                         accepted="a pipeline with all of its parts loaded")
    mine: dict[str, Tensor] = {}
    for name, part in parts.items():
        mine |= real_tensors(name, part, {full: torch.empty(patch.shape(full), device="meta") for full in patch.weights
                                          if full.startswith(f"{name}/")}, patch.card.base)
    if all(bool((mine[name] == patch.value(name, mine[name]).to(mine[name])).all()) for name in patch.weights):
        kinds = {str(tensor.dtype).removeprefix("torch.") for tensor in mine.values()} - {"float32"}
        rounded = f"; or {min(kinds)} rounds all of it away: then load the pipeline in float32" if kinds else ""
        raise ModelError("the pipeline has every value of the patch already", accepted="a pipeline without the patch",
                         remedy=f"it is on: nothing is to be done{rounded}")
    on = _patch_on(pipe, parts)
    if on:
        raise ModelError(f"the pipeline has the patch {on[:8]} on already", accepted="a pipeline without a patch",
                         remedy="load the pipeline anew; a second one would add up with the first or undo it")
    looks = {name: (answer(name, part), answer(name, part)) for name, part in parts.items()}
    before = {name: tensor.detach().clone() for name, tensor in mine.items()}
    try:
        _write(mine, {name: patch.value(name, weight) for name, weight in before.items()}, parts)
        changed = {name: _acts(name, *looks[name], answer(name, part)) for name, part in parts.items()}
        for name, part in parts.items():
            values = {full: tensor for full, tensor in mine.items() if full.startswith(f"{name}/")}
            vars(unwrapped(part))[_ON] = _On(patch.hash, values, tensors_hash(values))
        return changed
    except BaseException:
        _write(mine, before, parts)
        raise


@torch.no_grad()
def acting(model: Model, patch: Patch) -> dict[str, float]:
    """By component how much the output of a loaded model for fixed inputs changes with the patch on.

    Returns:
        Mean |difference| over mean |output|, as `load_into_pipeline`. The model is afterwards as it was.

    Raises:
        ModelError: one answers as before, or the patch does not fit. UserError: a patch is on.
    """
    cond, answers = model.encode([""]), _Answers(model)
    parts = sorted({full.partition("/")[0] for full in patch.tensors})
    before = {name: (answers.of(name, cond), answers.of(name, cond)) for name in parts}
    with applied(model, patch):
        return {name: _acts(name, *before[name], answers.of(name, cond)) for name in parts}


@dataclass(frozen=True)
class _Answers:
    """What a model's components put out for fixed inputs."""

    model: Model

    def of(self, component: str, cond: Conditioning) -> Tensor:
        """A text encoder's states of a fixed prompt, or the network's output in the middle of the schedule."""
        model = self.model
        for encoder in model.texts:
            if encoder.name == component:
                return encoder.read(encoder.laid_out(["a photo of a cat"]))["states"].float().cpu()
        middle = model.process.schedule.quantile(torch.tensor([0.5]))
        return model.predict(model.initial_noise([0]), middle, cond).cpu()


def _write(mine: Mapping[str, Tensor], values: Mapping[str, Tensor], parts: Mapping[str, Any]) -> None:
    with _in_place(mine.values()):
        for name, value in values.items():
            mine[name].copy_(value)
        for part in parts.values():
            refresh_fused(part)


def _in_place(tensors: Iterable[Tensor]) -> AbstractContextManager[Any]:
    """Where the tensors may be written: those of a pipeline that was loaded in inference mode nowhere else."""
    return torch.inference_mode() if any(tensor.is_inference() for tensor in tensors) else nullcontext()


def _acts(component: str, before: Tensor, again: Tensor, after: Tensor) -> float:
    """How much the output changed, as a share of it. ModelError: no more than from one call to the next."""
    chance, change = float((again - before).abs().mean()), float((after - before).abs().mean())
    if not change > 4 * chance:
        raise ModelError(f"the patch is on, but the {component} answers as before (changed by {change:.3g}, from one "
                         f"call to the next by {chance:.3g}): something else computes in its place",
                         accepted="a pipeline whose networks compute with their own weights",
                         remedy="put the patch on a freshly loaded pipeline, before anything is fused, compiled or "
                                "offloaded; the pipeline is as it was")
    return change / max(float(before.abs().mean()), 1e-12)
