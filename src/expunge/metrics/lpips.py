"""LPIPS with AlexNet by a file of the user's: no download, no torchvision. And at 64 pixels, as ESD measured it.

    d(a, b) = sum_l mean over space of w_l . (f_l(a) / |f_l(a)| - f_l(b) / |f_l(b)|)^2

f_l are AlexNet's five rectified convolutions; the weights w_l come with torchmetrics. `lpips-64` makes the shorter side
64 pixels first (PIL's bilinear on 8 bits): a far coarser question than LPIPS at full size, and another number.

Source: Zhang et al. 2018, eq. 1; the resize as rohitgandikota/erasing, evalscripts/lpips_eval.py. Differs: none.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from expunge.errors import ModelError, UserError
from expunge.files import file_digest
from expunge.metrics.packaged import packaged_file, packaged_tensors, state_dict

PUBLISHED = "alexnet-owt-7be5be79.pth (download.pytorch.org/models; torchvision's AlexNet, BSD 3-Clause)"
KNOWN = "7be5be79"
"""The sha256 of that file begins so, as its name says."""
_LAYERS = ((0, 64, 3, 11), (3, 192, 64, 5), (6, 384, 192, 3), (8, 256, 384, 3), (10, 256, 256, 3))
"""Index, channels out, channels in and kernel of the five convolutions."""
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
_HEADS = "functional/image/lpips_models/alex.pth"
LEAST = 32
"""Pixels; smaller images do not survive the network."""


class LpipsAlex:
    """`Distance`: LPIPS (AlexNet, version 0.1).

    Attributes:
        name: "lpips-alex@<first 8 of the file's sha256>", with "-64" for 64 pixels. hash: the whole sha256.
    """

    def __init__(self, alexnet: Path, side: int = 0, modified: bool = False, batch: int = 32) -> None:
        """Open the user's file.

        Args:
            alexnet: the file. side: pixels of the shorter side to resize to first; 0: none.
            modified: take a file of another hash, too; the name says so. batch: pairs at a time.

        Raises:
            UserError: no such file, or one of another hash. ModelError: it is damaged, or of other shapes.
        """
        alexnet = Path(alexnet)
        if not alexnet.is_file():
            raise UserError(f"no AlexNet weights at {alexnet}", accepted=PUBLISHED)
        self.hash = file_digest(alexnet)
        known = self.hash.startswith(KNOWN)
        if not known and not modified:
            raise UserError(f"{alexnet} has the sha256 {self.hash}", accepted=f"one that begins with {KNOWN}",
                            remedy=f"give {PUBLISHED}; or allow a deviation, and scores carry another name")
        ending = f"-{side}" if side else ""
        self.name = f"lpips-alex{'' if known else '-modified'}{ending}@{self.hash[:8]}"
        self._weights = _checked(state_dict(alexnet, PUBLISHED), alexnet)
        heads = packaged_tensors(packaged_file("torchmetrics", _HEADS))
        self._heads = [heads[f"lin{layer}.model.1.weight"] for layer in range(len(_LAYERS))]
        self._side, self._batch = side, batch

    @torch.no_grad()
    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """float32 (B,), at least 0, for images (B, 3, H, W) in [0, 1].

        Raises:
            UserError: images below 32 pixels that are not resized.
        """
        if not self._side and min(a.shape[-2:]) < LEAST:
            raise UserError(f"images of {a.shape[-2]}x{a.shape[-1]} pixels",
                            accepted=f"at least {LEAST}x{LEAST} for LPIPS")
        parts = [self._distance(x, y) for x, y in zip(a.split(self._batch), b.split(self._batch), strict=True)]
        return torch.cat(parts) if len(a) else torch.zeros(0)

    def _distance(self, a: Tensor, b: Tensor) -> Tensor:
        x, y = ((_resized(p, self._side) if self._side else p) for p in (a.cpu(), b.cpu()))
        pairs = zip(self._maps(x), self._maps(y), self._heads, strict=True)
        return torch.stack([((_unit(f) - _unit(g)).square() * head).sum(1).mean((1, 2)) for f, g, head in pairs]).sum(0)

    def _maps(self, pictures: Tensor) -> list[Tensor]:
        """The five layers' activations, (B, C, h, w)."""
        shift, scale = (torch.tensor(values).view(3, 1, 1) for values in (_SHIFT, _SCALE))
        x, out = (pictures * 2 - 1 - shift) / scale, []
        for layer, (index, _, _, kernel) in enumerate(_LAYERS):
            if layer in (1, 2):
                x = F.max_pool2d(x, 3, 2)
            stride, padding = (4, 2) if layer == 0 else (1, kernel // 2)
            x = F.relu(F.conv2d(x, self._weights[f"features.{index}.weight"], self._weights[f"features.{index}.bias"],
                                stride, padding))
            out.append(x)
        return out


def lpips_64(alexnet: Path, modified: bool = False) -> LpipsAlex:
    """LPIPS of images made 64 pixels small first."""
    return LpipsAlex(alexnet, 64, modified)


def _resized(pictures: Tensor, side: int) -> Tensor:
    """The shorter side at `side` pixels, by PIL's bilinear on 8 bits, as torchvision's Resize does with images."""
    height, width = pictures.shape[-2:]
    size = (side, int(side * height / width)) if width <= height else (int(side * width / height), side)  # width first

    def one(picture: Tensor) -> Tensor:
        levels = (picture * 255).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
        made = Image.fromarray(np.ascontiguousarray(levels)).resize(size, Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(made)).permute(2, 0, 1).float() / 255

    return torch.stack([one(picture) for picture in pictures])


def _unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)


def _checked(state: dict[str, Tensor], file: Path) -> dict[str, Tensor]:
    for index, after, before, kernel in _LAYERS:
        for part, shape in (("weight", (after, before, kernel, kernel)), ("bias", (after,))):
            name = f"features.{index}.{part}"
            if name not in state or tuple(state[name].shape) != shape:
                raise ModelError(f"{file} has no {name} of shape {shape}", accepted=PUBLISHED)
    return {name: tensor.float() for name, tensor in state.items() if name.startswith("features.")}
