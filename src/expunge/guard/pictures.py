"""A folder of images with their captions, as people who fine-tune keep them.

Captions are looked for in this order: `metadata.jsonl` with "file_name" and "text" (the imagefolder of datasets, which
diffusers' scripts read), a text file of the image's name beside each (kohya), one caption for all.
"""

from __future__ import annotations

import logging
from pathlib import Path

from torch import Tensor

from expunge import untrusted
from expunge.errors import UserError
from expunge.finetune import PictureFolder, picture_folder

log = logging.getLogger(__name__)


def captioned(folder: str | Path, caption: str = "") -> tuple[Tensor, list[str]]:
    """Images float32 (N, 3, H, W) in [0, 1] and a caption for each, by the order of their names.

    Args:
        caption: for images that have none of their own.

    Raises:
        UserError: no images that can be read, images of different sizes, or none with a caption.
    """
    found, captions = captioned_folder(folder, caption)
    return found.pictures, captions


def captioned_folder(folder: str | Path, caption: str = "") -> tuple[PictureFolder, list[str]]:
    """As `captioned`, with what was left out of the folder: an image without a caption that can be read, too."""
    place = Path(folder)
    found = picture_folder(place)
    files, listed, left_out = found.files, _listed(place), dict[str, str]()
    captions = [listed.get(file.name) or _beside(file, left_out) or caption for file in files]
    rows = [row for row, (file, text) in enumerate(zip(files, captions, strict=True))
            if text and file.name not in left_out]
    if not rows:
        raise UserError(f"no image in {folder} has a caption ({files[0].name} first)",
                        accepted="metadata.jsonl, a .txt file beside each image, or one caption for all")
    left_out = {file.name: left_out.get(file.name, "it has no caption") for row, file in enumerate(files)
                if row not in rows}
    for name, why in left_out.items():
        log.warning("%s in %s is left out: %s", name, folder, why)
    kept = PictureFolder(tuple(files[row] for row in rows), found.pictures[rows], {**found.left_out, **left_out})
    return kept, [captions[row] for row in rows]


def _listed(folder: Path) -> dict[str, str]:
    file = folder / "metadata.jsonl"
    if not file.is_file():
        return {}
    try:
        rows = [untrusted.json_in(line) for line in untrusted.text(file).splitlines() if line.strip()]
        return {str(row["file_name"]): str(row["text"]) for row in rows}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} cannot be read: {error}",
                        accepted='one {"file_name": ..., "text": ...} per line') from error


def _beside(file: Path, left_out: dict[str, str]) -> str:
    """The caption beside an image, "" without one; `left_out` is told of one that cannot be read."""
    text = file.with_suffix(".txt")
    try:
        return untrusted.text(text).strip() if text.is_file() else ""
    except (OSError, UnicodeDecodeError):
        left_out[file.name] = "its caption cannot be read"
        return ""
