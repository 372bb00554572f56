"""Safetensors files that say the hash of their own tensors: written whole, or copied with some tensors exchanged.

A header's hash is over the bytes that come after it, so it is filled in last, in the room that was left for it.
Nothing is read whole: the copy goes by pieces, and one tensor at a time is exchanged.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors.torch import save_file
from torch import Tensor

from expunge import untrusted
from expunge.errors import ModelError

HASH = "modelspec.hash_sha256"
MODEL_HASH, LEGACY_HASH = "sshs_model_hash", "sshs_legacy_hash"
_NONE = {HASH: "0x" + 64 * "0", MODEL_HASH: 64 * "0", LEGACY_HASH: 8 * "0"}
"""As long as the hashes that take their place."""
_WINDOW = (0x100000, 0x10000)
_PIECE = 2**22

Header = dict[str, Any]


def read_header(file: BinaryIO) -> tuple[Header, int]:
    """The header of an open safetensors file, in its order, and where its tensors begin."""
    length = int.from_bytes(file.read(8), "little")
    header: Header = untrusted.json_in(file.read(length))
    return header, 8 + length


def write_whole(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str], *, kohya: bool = False) -> None:
    """Write tensors with a header that holds their hash; `kohya`: and the two that kohya's tools look up."""
    wanted = {HASH, *((MODEL_HASH, LEGACY_HASH) if kohya else ())}
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path,
              {"format": "pt", **metadata, **{name: _NONE[name] for name in wanted}})
    _fill_hashes(path)


def write_patched(original: Path, path: Path, edits: Iterable[tuple[str, Tensor]], metadata: Mapping[str, str]) -> None:
    """Copy a file; some of its tensors, of the same type and shape, and some entries of its metadata are new.

    Every other tensor keeps its bytes and its place, and the header its order.

    Raises:
        ModelError: a new tensor is not of the old one's size, or not finite.
    """
    with original.open("rb") as source, path.open("wb") as out:
        header, begin = read_header(source)
        about = {**header.pop("__metadata__", {}), **metadata, HASH: _NONE[HASH]}
        about |= {MODEL_HASH: _NONE[MODEL_HASH]} if MODEL_HASH in about else {}
        about |= {LEGACY_HASH: _NONE[LEGACY_HASH]} if LEGACY_HASH in about else {}
        start = _write_header(out, {"__metadata__": about, **header})
        source.seek(begin)
        shutil.copyfileobj(source, out, _PIECE)
        for key, tensor in edits:
            first, last = header[key]["data_offsets"]
            data = tensor.contiguous().reshape(-1).view(torch.uint8)
            if data.numel() != last - first:
                raise ModelError(f"{key!r} of {original} has {last - first} bytes, and its new values {data.numel()}",
                                 accepted="the same shape and number type")
            if not bool(tensor.float().isfinite().all()):
                number = str(tensor.dtype).removeprefix("torch.")
                raise ModelError(f"{key!r} is not finite in {number}, its type in {original.name}",
                                 accepted="numbers that the file's type holds",
                                 remedy="take an original in a wider type")
            out.seek(start + first)
            out.write(data.numpy().data)
    _fill_hashes(path)


def _write_header(out: BinaryIO, header: Header) -> int:
    """Write length and header at the file's beginning; where the tensors begin."""
    text = _spelt(header)
    out.seek(0)
    out.write(len(text).to_bytes(8, "little") + text)
    return 8 + len(text)


def _spelt(header: Header) -> bytes:
    """JSON as safetensors writes it, filled up with blanks to a multiple of eight."""
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8)


def _fill_hashes(path: Path) -> None:
    """Put the hashes into a header that has room for them."""
    with path.open("r+b") as file:
        header, begin = read_header(file)
        about = header["__metadata__"]
        whole = hashlib.sha256()
        while piece := file.read(_PIECE):
            whole.update(piece)
        about[HASH] = f"0x{whole.hexdigest()}"
        if MODEL_HASH in about:
            about[MODEL_HASH] = whole.hexdigest()
        if LEGACY_HASH in about:
            about[LEGACY_HASH] = _legacy(file, header, begin)
        if _write_header(file, header) != begin:
            raise ModelError(f"the header of {path.name} did not keep its length", remedy="please report this")


def _legacy(file: BinaryIO, header: Header, begin: int) -> str:
    """First 8 digits of a hash of 64 KiB at 1 MiB, in a file whose header kept no metadata but kohya's own.

    Source: kohya-ss library/train_util.py, addnet_hash_legacy and precalculate_safetensors_hashes. Differs: none.
    """
    own = {name: value for name, value in header["__metadata__"].items() if name.startswith("ss_")}
    short = _spelt({**({"__metadata__": own} if own else {}), **{k: v for k, v in header.items()
                                                                 if k != "__metadata__"}})
    front = len(short).to_bytes(8, "little") + short
    first, count = _WINDOW
    inside = front[first:first + count]
    file.seek(begin + max(0, first - len(front)))
    return hashlib.sha256(inside + file.read(count - len(inside))).hexdigest()[:8]
