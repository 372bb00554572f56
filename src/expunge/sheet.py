"""Images as PNG files, and several of them on one sheet."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from expunge.files import write_atomically


def write_picture(path: Path, pixels: Tensor) -> None:
    """Write pixels, float32 (3, H, W) in [0, 1], as PNG, atomically. StorageError: the file cannot be written."""
    array = (pixels * 255).round().byte().permute(1, 2, 0).contiguous().numpy()  # (H, W, 3)
    write_atomically(path, lambda file: Image.fromarray(array).save(file, format="PNG"))


def sheet(pixels: Tensor, columns: int, gap: int = 4) -> Tensor:
    """Images (N, 3, H, W) on one white sheet (3, H', W'), row by row."""
    count, _, high, wide = pixels.shape
    rows = -(-count // columns)
    page = torch.ones(3, rows * (high + gap) + gap, columns * (wide + gap) + gap)
    for i, picture in enumerate(pixels):
        top, left = gap + (i // columns) * (high + gap), gap + (i % columns) * (wide + gap)
        page[:, top:top + high, left:left + wide] = picture
    return page
