"""Which drawings a training batch takes: (object, style) cells by the weight of the style, whatever vendors drew."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Cells:
    """Rows grouped by (object, style), given both as (N,) index tensors.

    Args:
        weights: how often a cell of style i is drawn, relative to the others; None draws all equally often.
    """

    def __init__(self, objects: Tensor, styles: Tensor, weights: Sequence[float] | None = None) -> None:
        keys = objects * 1000 + styles
        self._rows = [torch.nonzero(keys == key)[:, 0] for key in keys.unique()]
        self._weights = None if weights is None else torch.tensor(weights)[keys.unique() % 1000]

    def __len__(self) -> int:
        return len(self._rows)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """(count,) rows: a cell at random, then one of its drawings at random."""
        cells = (torch.randint(len(self), (count,), generator=generator) if self._weights is None else
                 torch.multinomial(self._weights, count, replacement=True, generator=generator)).tolist()
        picks = torch.rand(count, generator=generator).tolist()
        return torch.stack([self._rows[cell][int(pick * len(self._rows[cell]))]
                            for cell, pick in zip(cells, picks, strict=True)])
