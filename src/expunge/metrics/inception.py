"""The Inception network of 2015 that FID is defined by, as its converted weights want it. Frozen.

    stem       five convolutions and two pools: 3 x 299 x 299 to 192 x 35 x 35
    5b 5c 5d   branches of 1x1, 5x5, two 3x3 and an average pool: 288 x 35 x 35
    6a         stride 2: 768 x 17 x 17;   6b to 6e: branches of 1x1, 7x7 in two lines, and an average pool
    7a         stride 2: 1280 x 8 x 8;    7b 7c: branches of 1x1, split 3x3, and a pool (7c: the largest): 2048 x 8 x 8
    feature    the mean over space, 2,048 numbers

Every convolution is without bias, batch-normalised (folded in here) and rectified. Average pools leave the padding out.

Source: Szegedy et al. 2016, as the TensorFlow graph of Heusel et al. 2017 has it; names of the weights as pytorch-fid
and torch-fidelity give them. Differs: the classifier on top is left out, for no score here uses it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from expunge.errors import ModelError

WIDTH = 2048
"""Numbers of a feature."""
SIDE = 299
"""Pixels that the network sees, both ways."""
_EPSILON = 1e-3
"""Of the batch normalisation."""


class _Conv(NamedTuple):
    """Channels in and out, kernel (height, width)."""

    before: int
    after: int
    tall: int
    wide: int


def _square(before: int, after: int, size: int) -> _Conv:
    return _Conv(before, after, size, size)


_STEM = {"Conv2d_1a_3x3": _square(3, 32, 3), "Conv2d_2a_3x3": _square(32, 32, 3), "Conv2d_2b_3x3": _square(32, 64, 3),
         "Conv2d_3b_1x1": _square(64, 80, 1), "Conv2d_4a_3x3": _square(80, 192, 3)}


def _a(before: int, pool: int) -> dict[str, _Conv]:
    return {"branch1x1": _square(before, 64, 1), "branch5x5_1": _square(before, 48, 1),
            "branch5x5_2": _square(48, 64, 5), "branch3x3dbl_1": _square(before, 64, 1),
            "branch3x3dbl_2": _square(64, 96, 3), "branch3x3dbl_3": _square(96, 96, 3),
            "branch_pool": _square(before, pool, 1)}


def _c(inner: int) -> dict[str, _Conv]:
    return {"branch1x1": _square(768, 192, 1), "branch7x7_1": _square(768, inner, 1),
            "branch7x7_2": _Conv(inner, inner, 1, 7), "branch7x7_3": _Conv(inner, 192, 7, 1),
            "branch7x7dbl_1": _square(768, inner, 1), "branch7x7dbl_2": _Conv(inner, inner, 7, 1),
            "branch7x7dbl_3": _Conv(inner, inner, 1, 7), "branch7x7dbl_4": _Conv(inner, inner, 7, 1),
            "branch7x7dbl_5": _Conv(inner, 192, 1, 7), "branch_pool": _square(768, 192, 1)}


def _e(before: int) -> dict[str, _Conv]:
    return {"branch1x1": _square(before, 320, 1), "branch3x3_1": _square(before, 384, 1),
            "branch3x3_2a": _Conv(384, 384, 1, 3), "branch3x3_2b": _Conv(384, 384, 3, 1),
            "branch3x3dbl_1": _square(before, 448, 1), "branch3x3dbl_2": _square(448, 384, 3),
            "branch3x3dbl_3a": _Conv(384, 384, 1, 3), "branch3x3dbl_3b": _Conv(384, 384, 3, 1),
            "branch_pool": _square(before, 192, 1)}


_BLOCKS: dict[str, dict[str, _Conv]] = {
    "Mixed_5b": _a(192, 32), "Mixed_5c": _a(256, 64), "Mixed_5d": _a(288, 64),
    "Mixed_6a": {"branch3x3": _square(288, 384, 3), "branch3x3dbl_1": _square(288, 64, 1),
                 "branch3x3dbl_2": _square(64, 96, 3), "branch3x3dbl_3": _square(96, 96, 3)},
    "Mixed_6b": _c(128), "Mixed_6c": _c(160), "Mixed_6d": _c(160), "Mixed_6e": _c(192),
    "Mixed_7a": {"branch3x3_1": _square(768, 192, 1), "branch3x3_2": _square(192, 320, 3),
                 "branch7x7x3_1": _square(768, 192, 1), "branch7x7x3_2": _Conv(192, 192, 1, 7),
                 "branch7x7x3_3": _Conv(192, 192, 7, 1), "branch7x7x3_4": _square(192, 192, 3)},
    "Mixed_7b": _e(1280), "Mixed_7c": _e(2048)}
CONVOLUTIONS: dict[str, _Conv] = {**_STEM, **{f"{block}.{name}": conv for block, convs in _BLOCKS.items()
                                              for name, conv in convs.items()}}
"""Every convolution by the name of its weights."""


class Inception:
    """The network with its weights: input float32 (B, 3, 299, 299) in about [-1, 1], output float32 (B, 2048)."""

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        """Fold the batch normalisation of `state` (names as pytorch-fid's) into the convolutions.

        Raises:
            ModelError: a weight is missing or has another shape.
        """
        self._weights = {name: _folded(state, name, conv) for name, conv in CONVOLUTIONS.items()}

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Features (B, 2048), at least 0."""
        x = self._conv(x, "Conv2d_1a_3x3", stride=2, pad=False)
        x = self._conv(x, "Conv2d_2a_3x3", pad=False)
        x = F.max_pool2d(self._conv(x, "Conv2d_2b_3x3"), 3, 2)  # (B, 64, 73, 73)
        x = self._conv(x, "Conv2d_3b_1x1")
        x = F.max_pool2d(self._conv(x, "Conv2d_4a_3x3", pad=False), 3, 2)  # (B, 192, 35, 35)
        for block in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
            x = self._branches(x, block, ["branch1x1"], ["branch5x5_1", "branch5x5_2"],
                               [f"branch3x3dbl_{i}" for i in (1, 2, 3)])
        x = self._halved(x, "Mixed_6a", ["branch3x3"], [f"branch3x3dbl_{i}" for i in (1, 2, 3)])  # (B, 768, 17, 17)
        for block in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
            x = self._branches(x, block, ["branch1x1"], [f"branch7x7_{i}" for i in (1, 2, 3)],
                               [f"branch7x7dbl_{i}" for i in (1, 2, 3, 4, 5)])
        x = self._halved(x, "Mixed_7a", ["branch3x3_1", "branch3x3_2"], [f"branch7x7x3_{i}" for i in (1, 2, 3, 4)])
        x = self._split(x, "Mixed_7b", largest=False)
        return self._split(x, "Mixed_7c", largest=True).mean((2, 3))

    def _conv(self, x: Tensor, name: str, stride: int = 1, pad: bool = True) -> Tensor:
        weight, bias = self._weights[name]
        padding = (weight.shape[2] // 2, weight.shape[3] // 2) if pad else (0, 0)
        return F.relu(F.conv2d(x, weight, bias, stride, padding))

    def _chain(self, x: Tensor, block: str, names: list[str]) -> Tensor:
        for name in names:
            x = self._conv(x, f"{block}.{name}")
        return x

    def _branches(self, x: Tensor, block: str, *chains: list[str]) -> Tensor:
        pooled = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        return torch.cat([*(self._chain(x, block, chain) for chain in chains),
                          self._chain(pooled, block, ["branch_pool"])], 1)

    def _halved(self, x: Tensor, block: str, *chains: list[str]) -> Tensor:
        """The last convolution of each chain, and the pool, take every second pixel."""
        ends = [self._conv(self._chain(x, block, chain[:-1]), f"{block}.{chain[-1]}", 2, False) for chain in chains]
        return torch.cat([*ends, F.max_pool2d(x, 3, 2)], 1)

    def _split(self, x: Tensor, block: str, largest: bool) -> Tensor:
        three = self._chain(x, block, ["branch3x3_1"])
        double = self._chain(x, block, ["branch3x3dbl_1", "branch3x3dbl_2"])
        pooled = F.max_pool2d(x, 3, 1, 1) if largest else F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        ends = [(x, "branch1x1"), (three, "branch3x3_2a"), (three, "branch3x3_2b"), (double, "branch3x3dbl_3a"),
                (double, "branch3x3dbl_3b"), (pooled, "branch_pool")]
        return torch.cat([self._chain(part, block, [name]) for part, name in ends], 1)


def _folded(state: Mapping[str, Tensor], name: str, conv: _Conv) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution with its batch normalisation in it."""
    shapes = {f"{name}.conv.weight": (conv.after, conv.before, conv.tall, conv.wide),
              **{f"{name}.bn.{part}": (conv.after,) for part in ("weight", "bias", "running_mean", "running_var")}}
    for key, shape in shapes.items():
        if key not in state or tuple(state[key].shape) != shape:
            found = tuple(state[key].shape) if key in state else "nothing"
            raise ModelError(f"{key} of the Inception network: {found}", accepted=f"{shape}",
                             remedy="give the file pt_inception-2015-12-05-6726825d.pth")
    weight, *bn = (state[key].double() for key in shapes)
    scale = bn[0] / (bn[3] + _EPSILON).sqrt()
    return (weight * scale[:, None, None, None]).float(), (bn[1] - bn[2] * scale).float()
