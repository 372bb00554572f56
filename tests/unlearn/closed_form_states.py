"""Random text states and projections for tests of the closed forms."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from expunge.unlearn.closed_form.reading import Pairs, Reading

WIDTH = 24


def states(seed: int, count: int, width: int = WIDTH) -> Tensor:
    """Normal states with a common part, as text encoders have it: float64 (count, width)."""
    generator = torch.Generator().manual_seed(seed)
    common = torch.randn(width, generator=generator, dtype=torch.float64)
    return common + torch.randn((count, width), generator=generator, dtype=torch.float64)


def reading(concepts: int = 3, keep: int = 4, retained: int = 5, empty: int = 2) -> Reading:
    """`concepts` pairs, the last one with half the weight of the others."""
    a = torch.ones(concepts, dtype=torch.float64)
    a[-1] = 0.5
    pairs = Pairs(states(1, concepts), states(2, concepts), a)
    return Reading(pairs, states(3, keep), states(4, empty), states(5, retained), 1 + keep + retained)


def without_keep(given: Reading) -> Reading:
    """The same concepts, and nothing that must stay."""
    nothing = given.keep[:0]
    return replace(given, keep=nothing, empty=nothing, retained=nothing)


def layers(*rows: int, width: int = WIDTH) -> dict[str, Tensor]:
    """A random projection of each number of rows."""
    generator = torch.Generator().manual_seed(sum(rows))
    return {f"layer {i}": torch.randn((count, width), generator=generator, dtype=torch.float64)
            for i, count in enumerate(rows)}
