"""ST-LPIPS: a published perceptual distance that forgives a shift by a pixel, with its published weights.

    d(a, b) = sum_l mean over space of w_l . (f_l(a) / |f_l(a)| - f_l(b) / |f_l(b)|)^2

f_l are five layers of an AlexNet whose strides are replaced by blurring and taking every second pixel, trained together
with the weights w_l >= 0 on human judgments. The weights come as a package (the extra `second`); its code is not
imported, and this network gives the same values: on 64 pairs of images of 64 and 200 pixels within 1e-6.

Source: Ghildyal and Liu, ECCV 2022 (Shift-tolerant LPIPS), section 4, AlexNet; blurring as Zhang 2019. Differs: none.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from expunge.errors import ModelError, UserError
from expunge.files import file_digest
from expunge.metrics.packaged import packaged_file, packaged_tensors

PACKAGE = "stlpips_pytorch"
_FILE = "weights/vST0.0/alex_shift_tolerant.pth"
_CONVOLUTIONS = ("slice1.0", "slice2.5", "slice3.9", "slice4.11", "slice5.13")
_SHAPES = ((64, 3, 11), (192, 64, 5), (384, 192, 3), (256, 384, 3), (256, 256, 3))
"""Channels out, channels in and kernel of the five convolutions."""
LEAST = 32
"""Pixels; smaller images do not survive the network."""


class StLpips:
    """`Distance`: ST-LPIPS with AlexNet.

    Attributes:
        name: "st-lpips-alex@<first 8 of the sha256 of the weights>".
        hash: the whole sha256.
    """

    def __init__(self, batch: int = 32) -> None:
        """Load the weights from the installed package.

        Args:
            batch: pairs at a time.

        Raises:
            UserError: the package is not installed.
            ModelError: its weights are damaged or others.
        """
        self.hash, self._weights = _weights(packaged_file(PACKAGE, _FILE))
        self.name = f"st-lpips-alex@{self.hash[:8]}"
        self._batch = batch

    @torch.no_grad()
    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """float32 (B,), at least 0, for images (B, 3, H, W) in [0, 1], H and W of 32 or more.

        Raises:
            UserError: smaller images.
        """
        if min(a.shape[-2:]) < LEAST:
            raise UserError(f"images of {a.shape[-2]}x{a.shape[-1]} pixels",
                             accepted=f"at least {LEAST}x{LEAST} for ST-LPIPS")
        parts = [self._distance(x, y) for x, y in zip(a.split(self._batch), b.split(self._batch), strict=True)]
        return torch.cat(parts) if len(a) else torch.zeros(0)

    def _distance(self, a: Tensor, b: Tensor) -> Tensor:
        out = torch.zeros(len(a))
        for layer, (f, g) in enumerate(zip(self._maps(a), self._maps(b), strict=True)):
            square = (_unit(f) - _unit(g)).square()
            out += (square * self._weights[f"lin{layer}.model.1.weight"]).sum(1).mean((1, 2))
        return out

    def _maps(self, pictures: Tensor) -> list[Tensor]:
        """The five layers' activations, (B, C, h, w)."""
        w = self._weights
        x = (pictures * 2 - 1 - w["scaling_layer.shift"]) / w["scaling_layer.scale"]
        out = []
        for layer, (name, (_, _, kernel)) in enumerate(zip(_CONVOLUTIONS, _SHAPES, strict=True)):
            if layer in (1, 2):
                x = _blurred(F.max_pool2d(x, 3, stride=1))
            x = F.conv2d(x, w[f"net.{name}.weight"], w[f"net.{name}.bias"], padding=2 if kernel > 3 else 1)
            x = F.relu(_blurred(x) if layer == 0 else x)
            out.append(x)
        return out


def _blurred(x: Tensor) -> Tensor:
    """Every second pixel of (B, C, H, W) after a blur by (1, 2, 1) / 4 both ways, two pixels reflected at the edges."""
    line = torch.tensor([1.0, 2.0, 1.0]) / 4
    blur = (line[:, None] * line).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), blur, stride=2, groups=x.shape[1])


def _unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)


@lru_cache(maxsize=1)
def _weights(file: Path) -> tuple[str, Mapping[str, Tensor]]:
    state = packaged_tensors(file)
    shapes: dict[str, tuple[int, ...]] = {"scaling_layer.shift": (1, 3, 1, 1), "scaling_layer.scale": (1, 3, 1, 1)}
    for layer, (name, (after, before, kernel)) in enumerate(zip(_CONVOLUTIONS, _SHAPES, strict=True)):
        shapes |= {f"net.{name}.weight": (after, before, kernel, kernel), f"net.{name}.bias": (after,),
                   f"lin{layer}.model.1.weight": (1, after, 1, 1)}
    wrong = [name for name, shape in shapes.items() if name not in state or tuple(state[name].shape) != shape]
    odd = [name for name in state if name not in shapes and not name.endswith(".filt")]  # the blur is known
    if wrong or odd:
        raise ModelError(f"{file} holds other weights (first: {(wrong or odd)[0]})",
                         accepted="those of ST-LPIPS with AlexNet")
    return file_digest(file), state
