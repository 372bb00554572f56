"""What memory a training run takes, part by part, known before anything is computed.

What is stored is counted. What a forward keeps for its backward is counted on the meta device: the networks' own
modules with weights that have a shape and no values, attention as the fused kernels do it (queries, keys, values, the
output and one number a row). Real allocators take some more for what a layer needs while it computes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from expunge.errors import ResourceError
from expunge.models.base import Role
from expunge.models.conditioning import Conditioning
from expunge.models.lora import with_adapters
from expunge.models.model import Model
from expunge.models.scope import full_names
from expunge.models.text import Tokens
from expunge.runtime import neighbours
from expunge.unlearn.context import Kept

ROLES: tuple[Role, ...] = ("denoiser", "text", "autoencoder")
LARGE = 2**28
"""Bytes of weights from which on a run looks whether there is room, before it begins."""


@dataclass(frozen=True)
class Footprint:
    """Attributes:
        parts: bytes while it trains, by what they are for, in the order in which they are told.
        phases: bytes of a whole run by what is being done, in that order; outside training those of weights alone.
        held: bytes of the model's weights that are in memory now.
    """

    parts: Mapping[str, int]
    phases: Mapping[str, int]
    held: int

    @property
    def peak(self) -> int:
        """Of the largest phase."""
        return max(self.phases.values())

    @property
    def beyond(self) -> int:
        """What a run takes beside what is in memory now."""
        return self.peak - self.held


@runtime_checkable
class SendsMore(Protocol):
    """A part of a recipe that sends other rows through the student than a step has points."""

    def rows_at_once(self, batch: int) -> int:
        """Rows whose activations it keeps at once, of a step of `batch` points."""
        ...


def footprint(model: Model, names: Collection[str], rank: int | None, *, batch: int, pools: Kept | None = None,
              gradients: int = 1, sums: int = 0, text: bool = True) -> Footprint:
    """Of a run that changes the weights of these full names, by a LoRA of that rank or, None, themselves.

    Args:
        batch: points of a step's largest loss. pools: what sources keep.
        gradients: how many gradients an update has at once. sums: how many more while processes add theirs up.
        text: whether the text encoders are in memory while it trains.
    """
    sizes = {role: sum(model.sizes_of(role).values()) for role in ROLES}
    there = sizes["denoiser"] + (sizes["text"] if text else 0) + (0 if model.apart else sizes["autoencoder"])
    weights = model.shapes_of(names)
    trained, copies = _trained(weights, rank)
    cond = model.encode([""]).detach()
    row = sum(tensor.nbytes for tensor in cond.rows.values())
    latent, pools = 4 * model.initial_noise([0]).numel(), pools or Kept()
    originals = sum(p.nbytes for p in weights.values() if p.dtype == torch.float32) if rank is None else 0
    parts = {"weights": there, "what trains": copies, "originals": originals,
             "gradients": 4 * trained * (gradients + sums), "optimizer": 8 * trained,
             "activations": _kept(model, weights, rank, batch, cond),
             "samples and prompts": pools.latents * latent + pools.rows * row}
    whole = sum(sizes.values())
    return Footprint(parts, {
        "opening": 0 if model.apart else whole, "encoding prompts": sizes["text"] if model.apart else whole,
        "training": sum(parts.values()), "drawing": max(sizes.values()) if model.apart else whole}, model.in_memory)


def _trained(weights: Mapping[str, Parameter], rank: int | None) -> tuple[int, int]:
    """How many numbers train, and the bytes of them that stand beside the weights: masters and casts, or factors."""
    if rank is not None:
        count = sum(rank * (len(p) + p[0].numel()) for p in weights.values())
        return count, 4 * count
    masters = sum((4 + p.element_size()) * p.numel() for p in weights.values() if p.dtype != torch.float32)
    return sum(p.numel() for p in weights.values()), masters


def _kept(model: Model, weights: Mapping[str, Parameter], rank: int | None, batch: int, cond: Conditioning) -> int:
    """What one forward of the student keeps for its backward."""
    parts = {name: shapes_alone(part) for name, part in model.denoiser.components.items()}
    denoiser = model.denoiser.with_components(parts)
    x, t = model.initial_noise([0]).to("meta").expand(batch, -1, -1, -1), torch.ones(batch, device="meta")

    def forward() -> Tensor:
        if not model.trains_text(weights):
            told = cond.to("meta").repeat(batch)
        else:
            rows = [encoder.laid_out([""] * batch) for encoder in model.texts]
            told = denoiser.condition([Tokens(row.ids.to("meta"), row.mask.to("meta")) for row in rows], {})
        return denoiser.predict(x, t, told)

    return kept_by(forward, parts, [*weights], rank)


def kept_by(forward: Callable[[], Tensor], parts: Mapping[str, nn.Module], weights: list[str], rank: int | None) -> int:
    """Bytes of distinct tensors that a forward on the meta device keeps for its backward, parameters left out.

    Args:
        parts: its networks by component. weights, rank: what trains in them, as in `footprint`.
    """
    kept: dict[int, tuple[Tensor, int]] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = tensor, storage.nbytes()
        return tensor

    with ExitStack() as stack:
        if rank is not None:
            stack.enter_context(with_adapters(parts, weights, rank))
        mine = {full: p for name, part in parts.items() for full, p in full_names(name, part).items()}
        if rank is None:
            for name in weights:
                mine[name].requires_grad_(True)
        stack.enter_context(_Fused())
        stack.enter_context(torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor))
        forward()
        own = {p.untyped_storage()._cdata for p in mine.values()}
    return sum(size for place, (_, size) in kept.items() if place not in own)


def shapes_alone(part: nn.Module) -> nn.Module:
    """A copy of a network whose parameters and buffers have shapes and types, and no values."""
    memo: dict[int, Any] = {id(p): Parameter(p.detach().to("meta"), requires_grad=False) for p in part.parameters()}
    memo |= {id(b): b.detach().to("meta") for b in part.buffers()}
    return copy.deepcopy(part, memo)


class _Attention(torch.autograd.Function):
    """Keeps what fused attention keeps; on the meta device there is nothing to compute."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = q.new_empty(*q.shape[:-1], v.shape[-1])
        ctx.save_for_backward(q, k, v, out, q.new_empty(q.shape[:-1], dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise NotImplementedError("there is no backward on the meta device")


class _Fused(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is scaled_dot_product_attention:
            return _Attention.apply(*args[:3]) if len(args) > 2 else _Attention.apply(
                *args, *(kwargs[name] for name in ("query", "key", "value")[len(args):]))
        return func(*args, **(kwargs or {}))


def check_room(needed: Footprint, device: torch.device, remedy: str) -> None:
    """ResourceError where a run would take more than is free; nothing where the system does not tell."""
    free = room(device)
    if free is not None and needed.beyond > free:
        told = ", ".join(f"{name} {size / 2**30:.1f}" for name, size in needed.parts.items() if size)
        raise ResourceError(f"a run of {needed.peak / 2**30:.1f} GiB (in training {told}), where "
                            f"{free / 2**30:.1f} GiB are free beside what is in memory now: "
                            f"{(needed.beyond - free) / 2**30:.1f} GiB are missing", remedy=remedy)


def room(device: torch.device) -> int | None:
    """Bytes that are free on a device for this process; None where the system does not tell.

    Processes of one launcher that compute on the same machine's processor have the same share of its memory each.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    told = next((line for line in lines if line.startswith("MemAvailable:")), None)
    return None if told is None or device.type != "cpu" else 1024 * int(told.split()[1]) // neighbours()
