"""EfficientNet-lite0: a convolutional network for natural images, as its published weights want it.

    stem     3x3 convolution, stride 2, 32 channels
    blocks   16 inverted bottlenecks: 1x1 expansion, depthwise convolution, 1x1 projection; added to their input
             where stride and width allow
    head     1x1 convolution to 1,280 channels; their mean over space; 1,000 classes of ImageNet

Every convolution but the projections ends in ReLU6. Batch normalisation is folded into the convolutions when weights
are read, for nothing is trained here.

Source: Tan and Le 2019 (EfficientNet, table 1); the "lite" edition of its authors (no squeeze and excitation, ReLU6,
stem and head of fixed width). Differs: none.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expunge.errors import ModelError

WIDTH = 1280
"""Numbers of a feature."""
_STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112),
           (4, 5, 2, 6, 192), (1, 3, 1, 6, 320))
"""Blocks, kernel, stride of the first, expansion, width of what comes out."""
_EPSILON = 1e-3
"""Of the batch normalisation."""


class SameConv(nn.Conv2d):
    """A convolution that pads as TensorFlow does: ceil(size / stride) comes out, the odd pixel goes right and below."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', ceil(H / stride), ceil(W / stride))."""
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        tall, wide = (max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[-2:])
        if tall % 2 == 0 and wide % 2 == 0:  # the convolution's own padding is faster
            return F.conv2d(x, self.weight, self.bias, self.stride, (tall // 2, wide // 2), groups=self.groups)
        x = F.pad(x, (wide // 2, wide - wide // 2, tall // 2, tall - tall // 2))
        return F.conv2d(x, self.weight, self.bias, self.stride, groups=self.groups)


class Block(nn.Module):
    """An inverted bottleneck (Sandler et al. 2018)."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = before * expansion
        self.expand = SameConv(before, inner, 1) if expansion > 1 else nn.Identity()
        self.depthwise = SameConv(inner, inner, kernel, stride, groups=inner)
        self.project = SameConv(inner, after, 1)
        self.skip = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        """(B, before, H, W) to (B, after, H / stride, W / stride)."""
        inner = F.relu6(self.expand(x)) if isinstance(self.expand, SameConv) else x
        y: Tensor = self.project(F.relu6(self.depthwise(inner)))
        return x + y if self.skip else y


class EfficientNetLite0(nn.Module):
    """The network, frozen. Input float32 (B, 3, H, W) in [-1, 1], H and W of 32 or more."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv(3, 32, 3, 2)
        blocks, before = [], 32
        for count, kernel, stride, expansion, width in _STAGES:
            for index in range(count):
                blocks.append(Block(before, width, kernel, stride if index == 0 else 1, expansion))
                before = width
        self.blocks = nn.Sequential(*blocks)
        self.head = SameConv(before, WIDTH, 1)
        self.classify = nn.Linear(WIDTH, 1000)

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> EfficientNetLite0:
        """The network with published weights, batch normalisation folded in.

        Args:
            state: tensors under the names of the PyTorch port: `_conv_stem`, `_bn0`, `_blocks.0._depthwise_conv`, ...

        Raises:
            ModelError: a tensor is missing, has another shape, or is of no use here.
        """
        with torch.random.fork_rng(devices=()):  # drawn at random and overwritten; nobody else's numbers move
            net = cls()
        left = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
        try:
            for conv, name, norm in net._convolutions():
                weight, bias = _folded(left, name, norm)
                _put(conv.weight, weight)
                assert conv.bias is not None, name
                _put(conv.bias, bias)
            _put(net.classify.weight, left.pop("_fc.weight"))
            _put(net.classify.bias, left.pop("_fc.bias"))
        except KeyError as error:
            raise ModelError(f"the weights lack {error}", accepted="those of EfficientNet-lite0") from error
        if left:
            raise ModelError(f"{len(left)} tensors have no place (first: {min(left)})",
                             accepted="those of EfficientNet-lite0")
        net.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return net

    def _convolutions(self) -> list[tuple[nn.Conv2d, str, str]]:
        """Every convolution with the published names of itself and of its normalisation."""
        found: list[tuple[nn.Conv2d, str, str]] = [(self.stem, "_conv_stem", "_bn0")]
        for index, block in enumerate(self.blocks):
            parts = (("expand", "_expand_conv", "_bn0"), ("depthwise", "_depthwise_conv", "_bn1"),
                     ("project", "_project_conv", "_bn2"))
            found += [(conv, f"_blocks.{index}.{name}", f"_blocks.{index}.{norm}") for part, name, norm in parts
                      if isinstance(conv := getattr(block, part), nn.Conv2d)]
        return [*found, (self.head, "_conv_head", "_bn1")]

    def features(self, x: Tensor) -> Tensor:
        """(B, 1280): the head's channels, averaged over space."""
        x = F.relu6(self.stem(x.contiguous(memory_format=torch.channels_last)))
        return F.relu6(self.head(self.blocks(x))).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, 1000) of the classes of ImageNet, in its usual order."""
        logits: Tensor = self.classify(self.features(x))
        return logits


def _folded(left: dict[str, Tensor], name: str, norm: str) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution that does what convolution and normalisation did; takes them out of `left`."""
    weight = left.pop(f"{name}.weight").double()
    gamma, beta, mean, variance = (left.pop(f"{norm}.{part}").double()
                                   for part in ("weight", "bias", "running_mean", "running_var"))
    scale = gamma / (variance + _EPSILON).sqrt()
    return weight * scale[:, None, None, None], beta - mean * scale


def _put(parameter: Tensor, value: Tensor) -> None:
    if parameter.shape != value.shape:
        raise ModelError(f"weights of shape {tuple(value.shape)}", accepted=f"{tuple(parameter.shape)}")
    with torch.no_grad():
        parameter.copy_(value)
