"""How many samples go through a model's denoiser, counted while they do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from expunge.models.model import Model


@dataclass
class Rows:
    """Samples so far: `frozen` without gradient, `trained` with one."""

    frozen: int = 0
    trained: int = 0


@contextmanager
def counted(model: Model) -> Iterator[Rows]:
    """Inside, every pass through the model's denoiser counts, and through copies that are made of it meanwhile."""
    rows = Rows()

    def count(module: torch.nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        first = next(value for value in (*given, *named.values()) if isinstance(value, Tensor) and value.dim() > 1)
        if torch.is_grad_enabled():
            rows.trained += len(first)
        else:
            rows.frozen += len(first)

    hook = model.network.register_forward_pre_hook(count, with_kwargs=True)
    try:
        yield rows
    finally:
        hook.remove()
