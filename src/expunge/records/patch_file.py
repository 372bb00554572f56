"""A patch's card, read from its file alone: without its tensors, and without the libraries that open those."""

from __future__ import annotations

import json
from pathlib import Path

from expunge.errors import ModelError
from expunge.records.card import PatchCard

_LONGEST = 100_000_000
"""Bytes of a header that safetensors accepts."""


def read_card(path: Path) -> PatchCard:
    """The card of the patch at `path`: its folder, or either of its files. The tensors are not looked at.

    Raises:
        ModelError: there is none, or it cannot be read.
    """
    named = path.suffix in {".safetensors", ".json"}
    file = path.with_suffix(".safetensors") if named else path / "patch.safetensors"
    if not file.is_file():
        raise ModelError(f"no patch at {path}", accepted="a folder with patch.safetensors, or a .safetensors file")
    beside = file.with_suffix(".json")
    try:
        text = beside.read_text(encoding="utf-8") if beside.is_file() else _inside(file)
        return PatchCard.read(text)
    except KeyError as error:
        raise ModelError(f"patch {file} has no card", remedy="copy the card too",
                         accepted=f"{beside.name} beside it, or a card in its metadata") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"the card of {file} cannot be read: {error}", accepted="a patch that expunge wrote",
                         remedy="copy or make it again") from error


def _inside(file: Path) -> str:
    """The card in the metadata of a safetensors file: 8 bytes of length, then JSON."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 0 < length <= _LONGEST:
            raise ValueError("it is no safetensors file")
        text: str = json.loads(stream.read(length))["__metadata__"]["card"]
        return text
