"""Learning rates of the bake."""

from __future__ import annotations

import math
from collections.abc import Callable


def warm_then_cosine(peak: float, steps: int, warm: int = 100) -> Callable[[int], float]:
    """Learning rate: linear for `warm` steps, then half a cosine down to zero."""
    return lambda i: peak * min(1.0, (i + 1) / warm) * 0.5 * (1 + math.cos(math.pi * i / steps))


def cosine_cycles(peak: float, cycle: int, warm: int = 100) -> Callable[[int], float]:
    """Learning rate: half a cosine over every `cycle` steps, each from half the peak of the one before.

    A run can thus be made longer by whole cycles after it has ended.
    """
    return lambda i: warm_then_cosine(peak / 2 ** (i // cycle), cycle, warm)(i % cycle)
