"""Which drawings a training batch takes: every (object, style) cell equally often, whatever the vendors drew."""

from __future__ import annotations

import torch
from torch import Tensor


class Cells:
    """Rows grouped by (object, style), given both as (N,) index tensors."""

    def __init__(self, objects: Tensor, styles: Tensor) -> None:
        keys = objects * 1000 + styles
        self._rows = [torch.nonzero(keys == key)[:, 0] for key in keys.unique()]

    def __len__(self) -> int:
        return len(self._rows)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """(count,) rows: a cell at random, then one of its drawings at random."""
        cells = torch.randint(len(self), (count,), generator=generator).tolist()
        picks = torch.rand(count, generator=generator).tolist()
        return torch.stack([self._rows[cell][int(pick * len(self._rows[cell]))]
                            for cell, pick in zip(cells, picks, strict=True)])
