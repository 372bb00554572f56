"""A folder of pictures with their captions, as people who fine-tune keep them.

Captions are looked for in this order: `metadata.jsonl` with "file_name" and "text" (the imagefolder of datasets, which
diffusers' scripts read), a text file of the picture's name beside each (kohya), one caption for all.
"""

from __future__ import annotations

import json
from pathlib import Path

from torch import Tensor

from expunge.errors import UserError
from expunge.finetune import PictureFolder, picture_folder


def captioned(folder: str | Path, caption: str = "") -> tuple[Tensor, list[str]]:
    """Pictures float32 (N, 3, H, W) in [0, 1] and a caption for each, by the order of their names.

    Args:
        caption: for pictures that have none of their own.

    Raises:
        UserError: no pictures that can be read, pictures of different sizes, or one without a caption.
    """
    found, captions = captioned_folder(folder, caption)
    return found.pictures, captions


def captioned_folder(folder: str | Path, caption: str = "") -> tuple[PictureFolder, list[str]]:
    """As `captioned`, with what was left out of the folder."""
    place = Path(folder)
    found = picture_folder(place)
    files = found.files
    told = _listed(place)
    captions = [told.get(file.name) or _beside(file) or caption for file in files]
    without = [file.name for file, text in zip(files, captions, strict=True) if not text]
    if without:
        raise UserError(f"{len(without)} of {len(files)} pictures in {folder} have no caption ({without[0]} first)",
                        accepted="metadata.jsonl, a .txt file beside each picture, or one caption for all")
    return found, captions


def _listed(folder: Path) -> dict[str, str]:
    file = folder / "metadata.jsonl"
    if not file.is_file():
        return {}
    try:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        return {str(row["file_name"]): str(row["text"]) for row in rows}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} cannot be read: {error}",
                        accepted='one {"file_name": ..., "text": ...} per line') from error


def _beside(file: Path) -> str:
    text = file.with_suffix(".txt")
    try:
        return text.read_text(encoding="utf-8").strip() if text.is_file() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{text} cannot be read: {error}", accepted="a caption in UTF-8") from error
