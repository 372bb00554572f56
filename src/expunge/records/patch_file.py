"""A patch's card, read from its file alone: without its tensors, and without the libraries that open those."""

from __future__ import annotations

from pathlib import Path

from expunge import untrusted
from expunge.errors import ModelError
from expunge.records.card import PatchCard


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
        text = untrusted.text(beside) if untrusted.there(beside) else \
            untrusted.tensors_header(file)["__metadata__"]["card"]
        return PatchCard.read(text)
    except KeyError as error:
        raise ModelError(f"patch {file} has no card", remedy="copy the card too",
                         accepted=f"{beside.name} beside it, or a card in its metadata") from error
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"the card of {file} cannot be read: {error}", accepted="a patch that expunge wrote",
                         remedy="copy or make it again") from error


def card_in(file: Path) -> PatchCard:
    """The card in a JSON file, as it lies beside what was exported. ModelError: it cannot be read."""
    try:
        return PatchCard.read(untrusted.text(file))
    except (OSError, ValueError) as error:
        raise ModelError(f"the card {file} cannot be read: {error}", accepted="one that expunge wrote",
                         remedy="export the patch again") from error
