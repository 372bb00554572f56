"""Learning rates of the bake."""

from __future__ import annotations

import math
from collections.abc import Callable


def warm_then_cosine(peak: float, steps: int, warm: int = 100) -> Callable[[int], float]:
    """Learning rate: linear for `warm` steps, then half a cosine down to zero."""
    return lambda i: peak * min(1.0, (i + 1) / warm) * 0.5 * (1 + math.cos(math.pi * i / steps))
