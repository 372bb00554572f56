"""Tensors of a file that somebody else wrote: safetensors, or with leave a pickle, by torch's reader of weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from expunge import untrusted
from expunge.errors import ModelError
from expunge.files import file_digest
from expunge.models.folder import PICKLES

_WRAPPERS = ("state_dict", "model_state_dict", "model")
_BESIDE = (int, float, str, bool, type(None))
"""What training scripts keep beside weights: counts, names."""


def keys_of(file: Path) -> list[str]:
    """Keys of a safetensors file. ModelError: damaged."""
    try:
        with untrusted.tensors(file) as opened:
            return [*opened.keys()]
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error}", remedy="fetch the file again") from error


def tensors_of(path: Path, allow_pickle: bool) -> Mapping[str, Tensor]:
    """All tensors of a file by key; of a pickle only with leave, and by torch's reader of weights alone.

    Raises:
        ModelError: damaged, in no known format, pickled without leave, or holding more than weights.
    """
    if path.suffix == ".safetensors":
        try:
            return untrusted.all_tensors(path)
        except OSError as error:
            raise ModelError(f"{path} cannot be read: {error}", remedy="fetch the file again") from error
    if path.suffix not in PICKLES:
        raise ModelError(f"{path} is a file in {path.suffix or 'no known format'}",
                         accepted=f".safetensors, or with --allow-pickle {', '.join(PICKLES)}")
    if not allow_pickle:
        raise ModelError(f"{path} is a pickle, which runs code when it is opened", accepted=".safetensors",
                         remedy="--allow-pickle reads it by torch's reader of weights, which runs none; ask for it in "
                         "safetensors where you can")
    try:
        held = untrusted.pickled_tensors(path)
    except OSError as error:
        raise ModelError(f"{path} holds more than weights, or is damaged: {error}",
                         accepted="a file that torch.load(weights_only=True) reads",
                         remedy="ask its authors for safetensors") from error
    return _unwrapped(held, path)


def _unwrapped(held: Any, path: Path) -> dict[str, Tensor]:
    for name in _WRAPPERS:
        if isinstance(held, Mapping) and isinstance(held.get(name), Mapping):
            held = held[name]
    if not isinstance(held, Mapping):
        raise ModelError(f"{path} holds a {type(held).__name__}", accepted="tensors by name")
    odd = [key for key, value in held.items() if not isinstance(value, (Tensor, *_BESIDE))]
    if odd:
        raise ModelError(f"{path} holds {odd[0]!r}, a {type(held[odd[0]]).__name__}", accepted="tensors by name")
    return {str(key): value for key, value in held.items() if isinstance(value, Tensor)}


def check_plain(tensors: Mapping[str, Tensor], path: Path) -> None:
    """ModelError: quantised weights, or what are none."""
    scaled = [key for key in tensors if key.endswith((".scale_weight", ".weight_scale", ".absmax", "scaled_fp8"))]
    if scaled:
        raise ModelError(f"{path} is quantised ({scaled[0]!r})", accepted=untrusted.WEIGHTS)
    if odd := untrusted.unlike_weights({key: str(value.dtype) for key, value in tensors.items()}):
        raise ModelError(f"{path}: {odd}", accepted=untrusted.WEIGHTS)


def digests(folder: Path) -> dict[str, str]:
    """sha256 of every safetensors file in a folder, by its name there."""
    return {file.relative_to(folder).as_posix(): file_digest(file) for file in sorted(folder.rglob("*.safetensors"))}
