"""Pictures for the page: PNG bytes by what they hold, kept in memory within a bound."""

from __future__ import annotations

import hashlib
import io
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

MOST = 256 * 2**20
"""Bytes of pictures that are kept; those not asked for longest go first."""
STRONG = 0.35
"""Mean difference of a pixel's channels, in [0, 1], that is drawn in full colour."""
INK = (0.0, 0.376, 0.659)
"""Colour of a full difference, on white."""


class Shown:
    """Pictures by digest."""

    def __init__(self, most: int = MOST) -> None:
        self._most, self._size, self._lock = most, 0, threading.Lock()
        self._kept: OrderedDict[str, bytes] = OrderedDict()

    def add(self, pixels: Tensor) -> str:
        """Keep a picture, float32 (3, H, W) in [0, 1]; returns its digest, 32 hex digits."""
        return self.add_png(png(pixels))

    def add_png(self, data: bytes) -> str:
        """Keep the bytes of a PNG file."""
        digest = hashlib.sha256(data).hexdigest()[:32]
        with self._lock:
            if digest not in self._kept:
                self._kept[digest] = data
                self._size += len(data)
            self._kept.move_to_end(digest)
            while self._size > self._most and len(self._kept) > 1:
                self._size -= len(self._kept.popitem(last=False)[1])
        return digest

    def get(self, digest: str) -> bytes | None:
        """The PNG file; None if there is none of that digest, or not any more."""
        with self._lock:
            if digest in self._kept:
                self._kept.move_to_end(digest)
            return self._kept.get(digest)


def png(pixels: Tensor) -> bytes:
    """A picture, float32 (3, H, W) in [0, 1], as a PNG file of 8 bits."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray((pixels.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()).save(file, "PNG")
    return file.getvalue()


def difference(before: Tensor, after: Tensor) -> tuple[Tensor, float]:
    """Where two pictures (3, H, W) differ, white where they do not; and by how much, the mean over all in [0, 1]."""
    import torch

    gap = (before - after).abs().mean(0)  # (H, W)
    share = (gap / STRONG).clamp(0, 1)
    ink = torch.tensor(INK)[:, None, None]
    return 1 - share * (1 - ink), float(gap.mean())
