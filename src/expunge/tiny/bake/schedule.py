"""Learning rates of the bake, and the step that they are for."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer


def descend(optimizer: Optimizer, loss: Tensor, params: Iterable[Tensor]) -> float:
    """A step down the loss, its gradient in `params` cut to an L2 norm of 1; returns the norm before."""
    optimizer.zero_grad()
    loss.backward()
    norm = clip_grad_norm_(params, 1.0)
    optimizer.step()
    return norm.item()


def warm_then_cosine(peak: float, steps: int, warm: int = 100) -> Callable[[int], float]:
    """Learning rate: linear for `warm` steps, then half a cosine down to zero."""
    return lambda i: peak * min(1.0, (i + 1) / warm) * 0.5 * (1 + math.cos(math.pi * i / steps))


def cosine_cycles(peak: float, cycle: int, warm: int = 100) -> Callable[[int], float]:
    """Learning rate: half a cosine over every `cycle` steps, each from half the peak of the one before.

    A run can thus be made longer by whole cycles after it has ended.
    """
    return lambda i: warm_then_cosine(peak / 2 ** (i // cycle), cycle, warm)(i % cycle)
