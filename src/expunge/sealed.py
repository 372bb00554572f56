"""What is kept with its digest in it: an object, a line of a file, tensors. A change that nobody meant is noticed.

The digest is sha256 of what it stands beside, under the key `seal`. What versions before 0.2 wrote has none, and is
read as it is.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.files import text_digest, whole_lines, write_atomically, write_json, write_tensors
from expunge.untrusted import json_in, mapping_of
from expunge.untrusted import tensors as opened

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

_SEAL = "seal"


def write_sealed_json(path: Path, value: Mapping[str, Any]) -> None:
    """As `write_json`, of an object, with its digest in it (`seal`, the last key)."""
    write_json(path, {**value, _SEAL: _sealed(value)})


def read_sealed_json(path: Path) -> dict[str, Any]:
    """What `write_sealed_json` wrote; of earlier versions, which sealed nothing, what is there.

    Raises:
        OSError: it cannot be read. ValueError: it is damaged.
    """
    value = mapping_of(path)
    _check_seal(value)
    return value


class DamagedLine(ValueError):
    """A line that is not what was written."""


def sealed_line(value: Mapping[str, Any]) -> str:
    """An object as a line of JSON, with its digest in it (`seal`, the last key)."""
    return json.dumps({**value, _SEAL: _sealed(value)}, ensure_ascii=False)


def unsealed_line(line: str | bytes) -> Any:
    """What `sealed_line` was given; of earlier versions, which sealed nothing, what is there.

    Raises:
        DamagedLine: it is no JSON any more, or another one than was sealed.
    """
    try:
        value = json_in(line)
        if isinstance(value, dict):
            _check_seal(value)
    except ValueError as error:
        raise DamagedLine(str(error)) from error
    return value


def mend_lines(path: Path, head: int = 0, fate: str = "what they kept is made again") -> None:
    """Take damaged lines out of a file of sealed ones, with one warning.

    Args:
        head: so many lines at its beginning are none of them, and stay.
        fate: what the warning says of what they kept.

    Raises:
        StorageError: it cannot be written anew.
    """
    damaged = {start for place, (start, line) in enumerate(whole_lines(path)) if place >= head and _is_damaged(line)}
    if not damaged:
        return
    log.warning("%s has damaged lines (%d); %s", path, len(damaged), fate)

    def write(file: Path) -> None:
        with file.open("wb") as mended:
            mended.writelines(line for start, line in whole_lines(path) if start not in damaged)

    write_atomically(path, write)


def _is_damaged(line: bytes) -> bool:
    try:
        unsealed_line(line)
    except DamagedLine:
        return True
    return False


def write_sealed_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """As `write_tensors`, with a digest of all of it in the metadata (`seal`)."""
    write_tensors(path, tensors, {**metadata, _SEAL: _seal_of_tensors(tensors, metadata)})


def read_sealed_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file of `write_sealed_tensors`; of earlier versions, without a seal, as they are.

    Raises:
        Unreadable, safetensors.SafetensorError: it cannot be read. ValueError: it is damaged.
    """
    with opened(path) as file:
        metadata = dict(file.metadata() or {})
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    seal = metadata.pop(_SEAL, None)
    if seal is not None and seal != _seal_of_tensors(tensors, metadata):
        raise ValueError("what it holds is not what was written")
    return tensors, metadata


def _check_seal(value: dict[str, Any]) -> None:
    """Take the seal off, if there is one. ValueError: it is another object's, or goes by another name."""
    seal = value.pop(_SEAL, None)
    if seal is not None and seal != _sealed(value):
        raise ValueError("what it holds is not what was written")
    if seal is None and value:
        *others, (_, last) = value.items()
        if isinstance(last, str) and last == _sealed(dict(others)):
            raise ValueError("its digest has lost its name")


def _sealed(value: Mapping[str, Any]) -> str:
    return text_digest(json.dumps(value, sort_keys=True))


def _seal_of_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    import torch

    digest = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"|{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
