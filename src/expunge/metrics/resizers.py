"""How an image becomes what Inception sees: three ways of the field, which give different FIDs of the same folders.

    clean299      PIL's bicubic on float channels, nothing rounded in between (clean-fid's mode "clean")
    tf299         bilinear as TensorFlow 1 had it: corners at 0, no antialiasing (torch-fidelity; FID's first code)
    bilinear299   torch's bilinear, pixel centres, no antialiasing (pytorch-fid)

Each takes images as the 8 bits that a file holds, and scales them as its program does.

Source: Parmar, Zhang and Zhu 2022 (clean-fid); the programs named. Differs: none; `tests/metrics/test_resizers.py`
holds their values on fixed images.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from expunge.errors import UserError
from expunge.metrics.inception import SIDE


def clean299(levels: Tensor) -> Tensor:
    """float32 (B, 3, 299, 299) in [-1, 1] of images (B, 3, H, W) in levels 0 to 255."""
    def channel(plane: Tensor) -> Tensor:
        made: Image.Image = Image.fromarray(plane.numpy()).resize((SIDE, SIDE), Image.Resampling.BICUBIC)  # mode F
        return torch.from_numpy(np.array(made)).clamp(0, 255)

    planes = levels.float().contiguous().flatten(0, 1)
    out = torch.stack([channel(plane) for plane in planes]).reshape(*levels.shape[:2], SIDE, SIDE)
    return (out - 128) / 128


def tf299(levels: Tensor) -> Tensor:
    """The same by TensorFlow 1's bilinear."""
    def places(size: int) -> tuple[Tensor, Tensor, Tensor]:
        at = torch.arange(SIDE, dtype=torch.float32) * (size / SIDE)
        low = at.floor().long()
        return low, (low + 1).clamp_max(size - 1), at - low

    x = levels.float()
    (top, bottom, down), (left, right, across) = places(x.shape[2]), places(x.shape[3])
    down = down[:, None]
    upper, lower = x[:, :, top], x[:, :, bottom]
    first = upper[..., left] + (upper[..., right] - upper[..., left]) * across
    second = lower[..., left] + (lower[..., right] - lower[..., left]) * across
    return (first + (second - first) * down - 128) / 128


def bilinear299(levels: Tensor) -> Tensor:
    """The same by torch's bilinear, scaled as pytorch-fid scales."""
    return 2 * F.interpolate(levels.float() / 255, (SIDE, SIDE), mode="bilinear", align_corners=False) - 1


RESIZERS: dict[str, Callable[[Tensor], Tensor]] = {"clean299": clean299, "tf299": tf299, "bilinear299": bilinear299}
"""By the names that statistics and scores carry."""


def resizer_named(name: str) -> Callable[[Tensor], Tensor]:
    """The resizer. Raises UserError if there is none of that name."""
    if name not in RESIZERS:
        raise UserError(f"unknown resizer {name!r}", accepted=", ".join(RESIZERS))
    return RESIZERS[name]
