"""Handwritten digits as a sequence of tasks, and a network small enough to learn them in a second."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from expunge.continual import Samples, Task


@pytest.fixture(scope="session")
def digits() -> list[Task]:
    """Three tasks of two digits each, 8 x 8 pixels in [0, 1], 100 samples to learn and the rest to look at."""
    from sklearn.datasets import load_digits

    read = load_digits()
    x, y = torch.tensor(read.images, dtype=torch.float32) / 16, torch.tensor(read.target, dtype=torch.int64)
    out = []
    for first in (0, 2, 4):
        rows = torch.nonzero((y == first) | (y == first + 1))[:, 0]
        train, test = rows[:100], rows[100:]
        out.append(Task(Samples(x[train], y[train]), Samples(x[test], y[test]), (first, first + 1)))
    return out


@pytest.fixture(scope="session")
def network() -> Callable[[int], nn.Module]:
    """A perceptron for six digits, by seed."""
    def made(seed: int = 0) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return nn.Sequential(nn.Flatten(), nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 6))

    return made
