"""A folder of pictures with their captions, as people who fine-tune keep them.

Captions are looked for in this order: `metadata.jsonl` with "file_name" and "text" (the imagefolder of datasets, which
diffusers' scripts read), a text file of the picture's name beside each (kohya), one caption for all.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from expunge.errors import UserError

_ENDINGS = {".png", ".jpg", ".jpeg", ".webp"}


def captioned(folder: str | Path, caption: str = "") -> tuple[Tensor, list[str]]:
    """Pictures float32 (N, 3, H, W) in [0, 1] and a caption for each, by the order of their names.

    Args:
        caption: for pictures that have none of their own.

    Raises:
        UserError: no pictures, one that cannot be read, pictures of different sizes, or one without a caption.
    """
    place = Path(folder)
    files = sorted(file for file in place.glob("*") if file.suffix.lower() in _ENDINGS)
    if not files:
        raise UserError(f"no pictures in {folder}", accepted="a folder with .png, .jpg or .webp files")
    told = _listed(place)
    captions = [told.get(file.name) or _beside(file) or caption for file in files]
    without = [file.name for file, text in zip(files, captions, strict=True) if not text]
    if without:
        raise UserError(f"{len(without)} of {len(files)} pictures in {folder} have no caption ({without[0]} first)",
                        accepted="metadata.jsonl, a .txt file beside each picture, or one caption for all")
    try:
        arrays = [np.array(Image.open(file).convert("RGB")) for file in files]
    except (OSError, UnidentifiedImageError) as error:
        raise UserError(f"a picture in {folder} cannot be read: {error}", accepted="whole .png, .jpg or .webp files"
                        ) from error
    if len({array.shape for array in arrays}) > 1:
        raise UserError(f"pictures of different sizes in {folder}", accepted="pictures of one size, the model's own")
    return torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2).float() / 255, captions


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
