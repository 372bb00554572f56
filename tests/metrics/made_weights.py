"""State dicts of random weights in the shapes of published networks, for tests that need no trained ones."""

from __future__ import annotations

from pathlib import Path

import torch

from expunge.metrics.inception import CONVOLUTIONS
from expunge.metrics.lpips import _LAYERS


def inception_file(folder: Path, seed: int = 0) -> Path:
    """A state dict as pytorch-fid's, with other values."""
    draw, state = torch.Generator().manual_seed(seed), {}
    for name, (before, after, tall, wide) in CONVOLUTIONS.items():
        scale = (2 / (before * tall * wide)) ** 0.5
        state[f"{name}.conv.weight"] = torch.randn(after, before, tall, wide, generator=draw) * scale
        for part, low in (("weight", 0.5), ("bias", -0.05), ("running_mean", -0.05), ("running_var", 0.5)):
            state[f"{name}.bn.{part}"] = torch.rand(after, generator=draw) * abs(low) * 2 + low
    path = folder / "pt_inception-made.pth"
    torch.save(state, path)
    return path


def alexnet_file(folder: Path) -> Path:
    """A state dict as torchvision's AlexNet, with other values and without its classifier."""
    draw, state = torch.Generator().manual_seed(0), {}
    for index, after, before, kernel in _LAYERS:
        state[f"features.{index}.weight"] = torch.randn(after, before, kernel, kernel, generator=draw) * 0.05
        state[f"features.{index}.bias"] = torch.randn(after, generator=draw) * 0.05
    path = folder / "alexnet-made.pth"
    torch.save(state, path)
    return path
