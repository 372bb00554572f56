"""Changes that the judge is scored on and was never trained on: what a person would still call by the same name.

Each is another kind than those of `expunge.tiny.bake.changes`, not another strength. Images are float32
(B, 3, H, W) in [0, 1]; the same image is changed in the same way in any batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

UnseenChange = Callable[[Tensor], Tensor]


def _places(x: Tensor) -> tuple[Tensor, Tensor]:
    """Row (H, 1) and column (1, W) of each pixel."""
    return torch.arange(x.shape[-2])[:, None], torch.arange(x.shape[-1])[None]


def _margin(x: Tensor) -> Tensor:
    """(H, W): how many pixels lie between this one and the edge."""
    row, column = _places(x)
    return torch.minimum(torch.minimum(row, x.shape[-2] - 1 - row), torch.minimum(column, x.shape[-1] - 1 - column))


def _vignette(x: Tensor) -> Tensor:
    row, column = _places(x)
    distance = ((row / (x.shape[-2] - 1) - 0.5).square() + (column / (x.shape[-1] - 1) - 0.5).square()) * 2
    return x * (1 - 0.85 * distance)


def _lit_from_the_left(x: Tensor) -> Tensor:
    return x * torch.linspace(1, 0.3, x.shape[-1])


def _faded(colour: tuple[float, float, float]) -> UnseenChange:
    return lambda x: 0.5 * x + 0.5 * torch.tensor(colour)[:, None, None]


def _two_coloured_frame(x: Tensor) -> Tensor:
    row, column = _places(x)
    dashes = torch.where(((row + column) // 8 % 2).bool(), torch.tensor([0.9, 0.1, 0.1])[:, None, None],
                         torch.tensor([1.0, 1.0, 1.0])[:, None, None])
    return torch.where(_margin(x) < 3, dashes, x)


def _dotted_frame(x: Tensor) -> Tensor:
    row, column = _places(x)
    dots = (_margin(x) < 4) & ((row // 2 + column // 2) % 2 == 0)
    return torch.where(dots, torch.tensor([0.1, 0.1, 0.4])[:, None, None], x)


def _letterbox(x: Tensor) -> Tensor:
    """Shrunk to seven tenths on black."""
    side = [round(size * 0.7) for size in x.shape[-2:]]
    small = F.interpolate(x, side, mode="bilinear", antialias=True, align_corners=False)
    top, left = (x.shape[-2] - side[0]) // 2, (x.shape[-1] - side[1]) // 2
    return F.pad(small, (left, x.shape[-1] - side[1] - left, top, x.shape[-2] - side[0] - top))


def _checked(x: Tensor) -> Tensor:
    """A quarter of its tiles of four pixels in grey."""
    row, column = _places(x)
    return torch.where((row // 4 % 2 == 0) & (column // 4 % 2 == 0), torch.tensor(0.5), x)


def _fence(x: Tensor) -> Tensor:
    """Black bars of two pixels in every ten."""
    return torch.where(_places(x)[1] % 10 < 2, torch.tensor(0.0), x)


def _scan_lines(x: Tensor) -> Tensor:
    return torch.where(_places(x)[0] % 2 == 0, x, 0.5 * x)


def _blocks(x: Tensor) -> Tensor:
    """Cosine transform in blocks of eight, coefficients rounded as a JPEG of poor quality rounds them."""
    k = torch.arange(8.0)
    basis = torch.cos(math.pi * (k[None] + 0.5) * k[:, None] / 8) / 2
    basis[0] /= math.sqrt(2)
    count, channels, height, width = x.shape
    tiles = (x - 0.5).reshape(count, channels, height // 8, 8, width // 8, 8).transpose(3, 4)
    step = 0.16 + 0.09 * (k[:, None] + k[None])
    rounded = torch.round((basis @ tiles @ basis.T) / step) * step
    return (basis.T @ rounded @ basis).transpose(3, 4).reshape(x.shape) + 0.5


def _waves(x: Tensor) -> Tensor:
    """Every row shifted by up to two pixels, in waves."""
    row, column = _places(x)
    source = (column + (2 * torch.sin(row * (2 * math.pi / 21))).round().long()).clamp(0, x.shape[-1] - 1)
    return x.gather(3, source.expand_as(x))


def _dragged(x: Tensor) -> Tensor:
    """Five pixels of movement, left to right."""
    return F.avg_pool2d(F.pad(x, (2, 2, 0, 0), mode="replicate"), (1, 5), stride=1)


def _salted(x: Tensor) -> Tensor:
    """One pixel in twenty black or white, the same ones in every image."""
    dice = torch.rand(x.shape[-2:], generator=torch.Generator().manual_seed(9))
    return torch.where(dice < 0.025, 0.0, torch.where(dice > 0.975, 1.0, x))


UNSEEN: dict[str, UnseenChange] = {
    "brighter gamma": lambda x: x ** 0.45,
    "darker gamma": lambda x: x ** 2.2,
    "vignette": _vignette,
    "lit from one side": _lit_from_the_left,
    "faded to blue": _faded((0.1, 0.2, 0.8)),
    "faded to brown": _faded((0.45, 0.3, 0.1)),
    "faded to black and lifted": lambda x: 0.35 * x + 0.2,
    "two-coloured frame": _two_coloured_frame,
    "dotted frame": _dotted_frame,
    "small on black": _letterbox,
    "checked": _checked,
    "behind a fence": _fence,
    "scan lines": _scan_lines,
    "JPEG blocks": _blocks,
    "posterised": lambda x: (x * 2.999).floor() / 2,
    "solarised": lambda x: torch.where(x > 0.6, 1.2 - x, x),
    "red and blue swapped": lambda x: x.flip(1),
    "pixelated": lambda x: F.interpolate(x[:, :, 1::2, 1::2], x.shape[-2:], mode="nearest"),
    "in waves": _waves,
    "dragged": _dragged,
    "salt and pepper": _salted,
}
