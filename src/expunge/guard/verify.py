"""Compare a returned model with the published one, and name every tensor that moved.

Equal means equal bit for bit. A model that comes back in a smaller number type (float16 saves half the disk) is
compared with the published values in that type, and the record says so.

Source: ours.
"""

from __future__ import annotations

import inspect
import json
import math
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from expunge.errors import ModelError, UserError
from expunge.guard.enforce import unwrapped
from expunge.guard.mask import check_mask, content_hash
from expunge.guard.naming import named, some, without_prefix
from expunge.guard.returned import Files, source_at
from expunge.models.lora import read_lora
from expunge.models.model import Model
from expunge.records.freezing import FreezeMask, Moved, Verification

_TYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
"""What weights may come back in. In smaller types (float8) much that moved rounds to what was published."""
_FREE_KEYS = ("sample_size",)
"""Keys of config.json that change no computation."""


def verify(published: Model, returned: Any, mask: FreezeMask) -> Verification:
    """Which tensors of the UNet moved, frozen ones first, and what was added.

    Args:
        published: the mask's own model, in float32, with the patch on that the mask was made with.
        returned: a diffusers folder (of a pipeline or of its UNet), a .safetensors file of a UNet or of a LoRA, a UNet,
            a pipeline, what expunge.load returns, or a state dict of a UNet.

    Raises:
        ModelError: a mask for another model; a published model that moved in memory; files that are missing, damaged,
            pickled, or more than one set of weights; two names of one tensor.
        UserError: `published` is not in float32, or `returned` holds no UNet.
    """
    check_mask(mask, published)
    if published.dtype != torch.float32:
        raise UserError(f"the published model is in {published.dtype}", accepted="torch.float32",
                        remedy="load it with dtype float32")
    own = {f"{published.network_name}/{name}": tensor.detach() for name, tensor in _state(published.network).items()}
    stale = [name for name in mask.frozen if content_hash(name, own[name]) != mask.tensors[name].sha256]
    if stale:
        raise ModelError(f"the model in memory is not as it was published: {len(stale)} frozen tensors moved "
                         f"({some(stale)})", accepted="the mask's own model, untrained",
                         remedy="load it again, and compare with that")
    if isinstance(returned, str | Path):
        source = source_at(Path(returned))
        tensors = Files(source)
        if len(source.files) == 1 and _is_lora(tensors, own):
            return _verified_lora(published, source.files[0], mask, own)
        return _verified(own, tensors, mask, str(returned), _differing(published.network, source.config))
    if isinstance(returned, Mapping):
        return _verified(own, returned, mask, "a state dict", ())
    module = unwrapped(returned)
    return _verified(own, _state(module), mask, type(returned).__name__,
                     _differing(published.network, getattr(module, "config", None)))


def _verified(own: Mapping[str, Tensor], returned: Mapping[str, Tensor], mask: FreezeMask, what: str,
              differs: tuple[str, ...]) -> Verification:
    bare, held = without_prefix(returned), set(mask.frozen)
    found = named(bare, own)
    if not found.own:
        raise UserError(f"{what} holds none of the {len(own)} tensors of the published UNet",
                        accepted="a UNet of the same architecture, or a LoRA for it")
    moved, types = [], {}
    for name, value in own.items():
        if name in found.own:
            other = returned[bare[found.own[name]]].detach()
            types[name] = str(other.dtype).removeprefix("torch.")
            difference = _difference(name, value, other, name in held)
            moved += [difference] if difference else []
    moved += [Moved(name=name, frozen=name in held, how="lora") for name in sorted(found.adapted)]
    missing = tuple(name for name in own if name not in found.own)
    return _record(mask, what, moved, missing=missing, added=tuple(sorted(found.strays)), differs=differs,
                   note=_types_note(types))


def _verified_lora(published: Model, file: Path, mask: FreezeMask, own: Mapping[str, Tensor]) -> Verification:
    read, held, moved = read_lora(file, published), set(mask.frozen), []
    weights = {**own, **published.parameters_of("text")}
    for name, delta in read.deltas(weights).items():
        difference = _difference(name, weights[name].detach(), weights[name].detach() + delta, name in held)
        if difference is not None or name in held:  # a LoRA of zeros on a frozen module trains there all the same
            sizes = {"largest": 0.0, "relative": 0.0} if difference is None else {
                "largest": difference.largest, "relative": difference.relative}
            moved.append(Moved(name=name, frozen=name in held, how="lora", **sizes))
    return _record(mask, str(file), moved, note="a LoRA: what it would change at strength 1")


def _record(mask: FreezeMask, what: str, moved: list[Moved], *, missing: tuple[str, ...] = (),
            added: tuple[str, ...] = (), differs: tuple[str, ...] = (), note: str) -> Verification:
    held = set(mask.frozen)
    gone = tuple(name for name in missing if name in held)
    order = sorted(moved, key=lambda one: (not one.frozen, -math.inf if one.relative is None else -one.relative))
    broken = {one.name for one in moved if one.frozen} | set(gone)
    return Verification(mask=mask.digest, returned=what, frozen=len(held), kept=len(held - broken), moved=tuple(order),
                        missing=missing, added=added, missing_frozen=gone, differs=differs, note=note)


def _difference(name: str, value: Tensor, other: Tensor, frozen: bool) -> Moved | None:
    """How far `other` is from `value`, None where they are equal in the type of `other`."""
    if other.shape != value.shape:
        return Moved(name=name, frozen=frozen, how="shape")
    if other.dtype != value.dtype and not (value.is_floating_point() and other.dtype in _TYPES):
        return Moved(name=name, frozen=frozen, how="type")
    other = other.to(value.device)
    if torch.equal(value.to(other.dtype), other):
        return None
    gap = other.double() - value.double()
    size, norm = float(value.double().norm()), float(gap.norm())
    largest = float(gap.abs().max())
    return Moved(name=name, frozen=frozen, largest=largest if math.isfinite(largest) else None,
                 relative=norm / size if size and math.isfinite(norm) else None)


def _types_note(types: Mapping[str, str]) -> str:
    """What number types were compared in; where they are mixed, which tensors are not in the usual one."""
    usual = Counter(types.values()).most_common(1)[0][0]
    rest = sorted({*types.values()} - {usual})
    others = {kind: [name for name, its in types.items() if its == kind] for kind in rest}
    if not others:
        return "" if usual in ("float32", "float64") else f"compared in {usual}, as it was returned"
    mixed = "; ".join(f"{kind}: {some(names)}" for kind, names in others.items())
    return f"compared in {usual}, as it was returned, but for {mixed}"


def _differing(unet: nn.Module, returned: Mapping[str, Any] | None) -> tuple[str, ...]:
    """Keys of a returned UNet's configuration that tell another architecture, and what they say.

    A key that is absent has the default that the UNet's class has for it.
    """
    published = getattr(unet, "config", None)
    if published is None or returned is None:
        return ()
    defaults = {name: each.default for name, each in inspect.signature(type(unet)).parameters.items()
                if each.default is not inspect.Parameter.empty}
    theirs, ours = ({**json.loads(json.dumps(defaults)), **json.loads(json.dumps(dict(config), default=str))}
                    for config in (returned, published))
    theirs.setdefault("_class_name", ours.get("_class_name"))
    keys = [key for key in {**ours, **theirs} if key == "_class_name" or not key.startswith("_")]
    return tuple(f"config.json {key}: {theirs.get(key)!r}, published {ours.get(key)!r}" for key in keys
                 if key not in _FREE_KEYS and theirs.get(key) != ours.get(key))


def _state(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, those that are not saved included."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _is_lora(names: Collection[str], own: Collection[str]) -> bool:
    """Whether these are a LoRA's tensors and none of a UNet's."""
    return any("lora" in name for name in names) and not named(without_prefix(names), own).own
