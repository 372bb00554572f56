"""Changes under which an image still shows what it shows: what the judge learns to see through.

A batch is changed item by item: each change falls on an item with its own probability and strength, so that some stay
as they are and few get three. Every change says which answers it leaves open: a darker image has no background
colour that a person would name, and the style of a blurred one is anybody's guess.

Images are float32 (B, 3, H, W) in [0, 1]; labels (B, 3) are object, style, background, `IGNORE` where none is taught.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

IGNORE = -100
_STYLE, _BACKGROUND = 1, 2
_Change = Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor]]
"""Changed images, and a bool (B,): is the change so strong that the style is open?"""


@dataclass(frozen=True)
class Change:
    """One kind of change.

    Attributes:
        share: probability that it falls on an item.
        apply: the change.
        keeps_background: whether the background's colour still has its name.
    """

    share: float
    apply: _Change
    keeps_background: bool = False


def changed(pictures: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The batch with every kind of change on some of its items, and the labels that can still be told."""
    pictures, labels = pictures.clone(), labels.clone()
    for change in CHANGES:
        rows = torch.nonzero(torch.rand(len(pictures), generator=generator) < change.share)[:, 0]
        if not len(rows):
            continue
        out, style_open = change.apply(pictures[rows], generator)
        pictures[rows] = out.clamp(0, 1)
        labels[rows[style_open], _STYLE] = IGNORE
        if not change.keeps_background:
            labels[rows, _BACKGROUND] = IGNORE
    return pictures, labels


def _between(low: float, high: float, x: Tensor, generator: torch.Generator, channels: int = 1) -> Tensor:
    return low + (high - low) * torch.rand(len(x), channels, 1, 1, generator=generator)


def _never(x: Tensor) -> Tensor:
    return torch.zeros(len(x), dtype=torch.bool)


def _colours(x: Tensor, generator: torch.Generator) -> Tensor:
    """(B, 3, 1, 1): black, white, or any colour, a third each."""
    kind = torch.randint(3, (len(x), 1, 1, 1), generator=generator)
    return torch.where(kind < 2, kind.float(), torch.rand(len(x), 3, 1, 1, generator=generator))


def _moved(x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Zoomed in or out, shifted and turned; what comes in at the border repeats it."""
    unit = lambda: torch.rand(len(x), generator=generator) * 2 - 1
    scale, angle, dx, dy = torch.exp(0.35 * unit()), 0.4 * unit(), 0.25 * unit(), 0.25 * unit()
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    theta = torch.stack([torch.stack([cos, -sin, dx], 1), torch.stack([sin, cos, dy], 1)], 1)
    grid = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, padding_mode="border", align_corners=False), _never(x)


def _darkened(x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return x * _between(0.25, 0.95, x, generator), _never(x)


def _faded_to_white(x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return 1 - (1 - x) * _between(0.25, 0.95, x, generator), _never(x)


def _contrast(x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Linear, about the image's own mean."""
    mean, factor = x.mean((1, 2, 3), keepdim=True), _between(0.3, 1.9, x, generator)
    return mean + (x - mean) * factor, (factor < 0.5).flatten()


def _tinted(x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return x * _between(0.45, 1.05, x, generator, channels=3), _never(x)


def _saturated(x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """From grey to gaudy; an image without its colours is no lesson in black and white."""
    grey, factor = x.mean(1, keepdim=True), _between(0, 1.9, x, generator)
    return grey + (x - grey) * factor, (factor < 0.6).flatten()


def _hue(x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Turned about the grey axis."""
    angle = 2 * math.pi * torch.rand(len(x), 1, 1, generator=generator)
    axis = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    turn = torch.eye(3) * torch.cos(angle) + (1 - torch.cos(angle)) / 3 + torch.sin(angle) * axis
    return torch.einsum("bij,bjhw->bihw", turn, x), _never(x)


def _inverted(x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return 1 - x, ~_never(x)


def _framed(x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A frame of one colour, one to seven pixels wide."""
    width = torch.randint(1, 8, (len(x), 1, 1, 1), generator=generator)
    h, w = x.shape[-2:]
    row, column = torch.arange(h)[:, None], torch.arange(w)[None]
    margin = torch.minimum(torch.minimum(row, h - 1 - row), torch.minimum(column, w - 1 - column))
    return torch.where(margin < width, _colours(x, generator), x), _never(x)


def _covered(x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """One rectangle of one colour, at most 22 pixels a side, over any part of the image."""
    inside = []
    for size in x.shape[-2:]:
        length = torch.randint(6, 23, (len(x), 1), generator=generator)
        start = (torch.rand(len(x), 1, generator=generator) * (size - length)).long()
        place = torch.arange(size)[None]
        inside.append((place >= start) & (place < start + length))
    patch = (inside[0][:, :, None] & inside[1][:, None, :])[:, None]
    return torch.where(patch, _colours(x, generator), x), _never(x)


def _blurred(x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Gaussian, sigma up to 1.8 pixels."""
    sigma = _between(0.4, 1.8, x, generator)
    weights = torch.exp(-torch.arange(-4.0, 5.0).square() / (2 * sigma.flatten()[:, None].square()))
    weights = weights / weights.sum(1, keepdim=True)
    flat = F.pad(x, (4, 4, 4, 4), mode="replicate").transpose(0, 1)  # (3, B, H + 8, W + 8): one filter per image
    flat = F.conv2d(flat, weights[:, None, :, None], groups=len(x))
    flat = F.conv2d(flat, weights[:, None, None, :], groups=len(x))
    return flat.transpose(0, 1), (sigma > 1).flatten()


def _coarse(x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Half the resolution, smoothed back."""
    half = F.avg_pool2d(x, 2)
    return F.interpolate(half, x.shape[-2:], mode="bilinear", align_corners=False), ~_never(x)


def _noisy(x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    sigma = _between(0.02, 0.16, x, generator)
    return x + sigma * torch.randn(x.shape, generator=generator), (sigma > 0.08).flatten()


CHANGES = (
    Change(0.22, _moved, keeps_background=True),
    Change(0.14, _darkened),
    Change(0.14, _faded_to_white),
    Change(0.12, _contrast),
    Change(0.08, _tinted),
    Change(0.08, _saturated),
    Change(0.08, _hue),
    Change(0.04, _inverted),
    Change(0.16, _framed, keeps_background=True),
    Change(0.10, _covered, keeps_background=True),
    Change(0.07, _blurred, keeps_background=True),
    Change(0.05, _coarse, keeps_background=True),
    Change(0.10, _noisy, keeps_background=True),
)
"""In the order in which they fall on an image."""
