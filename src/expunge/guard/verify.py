"""Compare a returned model with the published one, and name every tensor that moved.

Equal means equal bit for bit. A model that comes back in a smaller number type (float16 saves half the disk) is
compared with the published values in that type, and the record says so. Only safetensors are read: what users return is
not to be trusted.

Source: ours.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from expunge.errors import ModelError, UserError
from expunge.guard.enforce import adapted_modules, base_parameters, unwrapped
from expunge.guard.mask import check_mask
from expunge.models.lora import lora_path, read_lora
from expunge.models.sd import StableDiffusion
from expunge.records.freezing import FreezeMask, Moved, Verification

_WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors",
            "diffusion_pytorch_model.bf16.safetensors", "model.safetensors")
_INDEX = "diffusion_pytorch_model.safetensors.index.json"


def verify(published: StableDiffusion, returned: Any, mask: FreezeMask) -> Verification:
    """Which tensors of the UNet moved, frozen ones first.

    Args:
        published: the mask's own model, in float32, with the patch on that the mask was made with.
        returned: a diffusers folder (of a pipeline or of its UNet), a .safetensors file of a UNet or of a LoRA, a UNet,
            a pipeline, what expunge.load returns, or a state dict of a UNet.

    Raises:
        ModelError: a mask for another model; a file that is missing, damaged or pickled.
        UserError: `published` is not in float32, or `returned` holds no UNet.
    """
    check_mask(mask, published)
    if published.dtype != torch.float32:
        raise UserError(f"the published model is in {published.dtype}", accepted="torch.float32",
                        remedy="load it with dtype float32")
    own = {f"unet/{name}": tensor.detach() for name, tensor in _state(published.unet).items()}
    if isinstance(returned, str | Path):
        file = _lora_file(Path(returned))
        if file is not None:
            return _verified_lora(published, file, mask, own)
        with _opened(Path(returned)) as tensors:
            return _verified(own, tensors, mask, str(returned), set())
    if isinstance(returned, Mapping):
        adapters = adapted_modules(returned)
        tensors = {name.replace(".base_layer.", "."): value for name, value in returned.items()
                   if not adapted_modules([name])}
        return _verified(own, tensors, mask, "a state dict", adapters)
    module = unwrapped(returned)
    adapters = adapted_modules(name for name, _ in module.named_parameters())
    return _verified(own, _state(module), mask, type(returned).__name__, adapters)


def _verified(own: Mapping[str, Tensor], returned: Mapping[str, Tensor], mask: FreezeMask, what: str,
              adapters: set[str]) -> Verification:
    held, there = set(mask.frozen), {_full(name): name for name in returned}
    if not there.keys() & own.keys():
        raise UserError(f"{what} holds none of the {len(own)} tensors of the published UNet",
                        accepted="a UNet of the same architecture, or a LoRA for it")
    moved, types = [], set()
    for name, value in own.items():
        if name in there:
            other = returned[there[name]].detach()
            types.add(str(other.dtype).removeprefix("torch."))
            difference = _difference(name, value, other, name in held)
            moved += [difference] if difference else []
    moved += [Moved(name=f"{module}.weight", frozen=f"{module}.weight" in held, how="lora") for module in adapters]
    missing = tuple(name for name in own if name not in there)
    smaller = sorted(types - {"float32", "float64"})
    return _record(mask, what, moved, missing, tuple(sorted(there.keys() - own.keys())),
                   f"compared in {', '.join(smaller)}, as it was returned" if smaller else "")


def _verified_lora(published: StableDiffusion, file: Path, mask: FreezeMask, own: Mapping[str, Tensor]) -> Verification:
    read, held, moved = read_lora(file, published), set(mask.frozen), []
    weights = {**own, **{f"text_encoder/{name.removeprefix('text_model.')}": p
                         for name, p in published.text_encoder.named_parameters()}}
    for name, delta in read.deltas(weights).items():
        difference = _difference(name, weights[name].detach(), weights[name].detach() + delta, name in held)
        if difference is not None or name in held:  # a LoRA of zeros on a frozen module trains there all the same
            sizes = {"largest": 0.0, "relative": 0.0} if difference is None else {
                "largest": difference.largest, "relative": difference.relative}
            moved.append(Moved(name=name, frozen=name in held, how="lora", **sizes))
    return _record(mask, str(file), moved, (), (), "a LoRA: what it would change at strength 1")


def _record(mask: FreezeMask, what: str, moved: list[Moved], missing: tuple[str, ...], added: tuple[str, ...],
            note: str) -> Verification:
    held = set(mask.frozen)
    gone = tuple(name for name in missing if name in held)
    order = sorted(moved, key=lambda one: (not one.frozen, -math.inf if one.relative is None else -one.relative))
    broken = {one.name for one in moved if one.frozen} | set(gone)
    return Verification(mask=mask.digest, returned=what, frozen=len(held), kept=len(held - broken), moved=tuple(order),
                        missing=missing, added=added, missing_frozen=gone, note=note)


def _difference(name: str, value: Tensor, other: Tensor, frozen: bool) -> Moved | None:
    """How far `other` is from `value`, None where they are equal in the type of `other`."""
    if other.shape != value.shape or other.is_floating_point() != value.is_floating_point():
        return Moved(name=name, frozen=frozen, how="shape")
    other = other.to(value.device)
    if torch.equal(value.to(other.dtype), other):
        return None
    gap = other.double() - value.double()
    size, norm = float(value.double().norm()), float(gap.norm())
    largest = float(gap.abs().max())
    return Moved(name=name, frozen=frozen, largest=largest if math.isfinite(largest) else None,
                 relative=norm / size if size and math.isfinite(norm) else None)


def _state(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, those that are not saved included; adapters left out."""
    return {**{name.partition("/")[2]: p for name, p in base_parameters(module).items()},
            **dict(module.named_buffers())}


def _full(name: str) -> str:
    """ "conv_in.weight", "unet.conv_in.weight", "unet/conv_in.weight" -> the last of them."""
    return f"unet/{name.removeprefix('unet/').removeprefix('unet.').removeprefix('module.')}"


def _lora_file(path: Path) -> Path | None:
    """The LoRA's file, where the path is one or a folder with one and no UNet beside it."""
    if path.is_dir():
        alone = not (path / "unet").is_dir() and not any((path / name).is_file() for name in (*_WEIGHTS, _INDEX))
        return lora_path(path) if alone and (path / "pytorch_lora_weights.safetensors").is_file() else None
    if path.suffix != ".safetensors" or not path.is_file():
        return None
    with _reading(path), safe_open(path, "pt") as opened:
        return path if any("lora" in name for name in opened.keys()) else None  # noqa: SIM118 (not a dict)


class _Files(Mapping[str, Tensor]):
    """The tensors in some safetensors files, each read when it is asked for."""

    def __init__(self, files: list[Path]) -> None:
        self._handles = [safe_open(file, "pt") for file in files]
        self._where = {name: handle for handle in self._handles for name in handle.keys()}  # noqa: SIM118

    def __getitem__(self, name: str) -> Tensor:
        tensor: Tensor = self._where[name].get_tensor(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def __len__(self) -> int:
        return len(self._where)


@contextmanager
def _opened(path: Path) -> Iterator[Mapping[str, Tensor]]:
    """The UNet's tensors at a path. ModelError: missing, damaged or pickled."""
    if not path.exists():
        raise ModelError(f"nothing at {path}", accepted="a diffusers folder, or a .safetensors file")
    if path.is_file():
        if path.suffix != ".safetensors":
            raise ModelError(f"{path.name} is no safetensors file: a pickle file runs code when it is opened",
                             accepted="a .safetensors file, or a diffusers folder", remedy="ask for safetensors")
        files = [path]
    else:
        files = _shards(path / "unet" if (path / "unet").is_dir() else path)
    with _reading(path):
        yield _Files(files)


def _shards(folder: Path) -> list[Path]:
    index = folder / _INDEX
    if index.is_file():
        with _reading(index):
            named = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
            if any(Path(name).name != name for name in named):
                raise ValueError("it names files outside its folder")
            return [folder / name for name in named]
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return [folder / name]
    raise ModelError(f"{folder} holds no UNet in safetensors", accepted=f"{_WEIGHTS[0]}, or its index and shards",
                     remedy="ask for safetensors: a pickle file runs code when it is opened")


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} cannot be read: {error}", remedy="fetch it again, or refuse it") from error
