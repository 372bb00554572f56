"""How fast a model works, measured with as little work as tells it: what dry runs multiply.

Rows of a batch cost alike where one row is slow, so such a model is timed on a single one. A fast one is timed on the
batch that will be used, where a row costs less.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from expunge import runtime
from expunge.models.base import Guidance
from expunge.models.denoising import passes_of
from expunge.models.model import Model
from expunge.records import Sampler

SLOW = 0.25
"""Seconds from which on a single row is timed once, and stands for the others."""


@dataclass(frozen=True)
class Speed:
    """Seconds per image.

    Attributes:
        row: one row through the denoiser; decode: one latent to pixels; guided: how the model is.
    """

    row: float
    decode: float
    guided: Guidance

    def picture(self, sampler: Sampler) -> float:
        """Of a whole image."""
        return sampler.steps * passes_of(self.guided, sampler.guidance) * self.row + self.decode


def seconds_each(work: Callable[[int], object], batch: int, device: torch.device) -> float:
    """Seconds for each of `batch` rows: of one alone if that is `SLOW`, else the shortest of three whole batches.

    `work` takes the number of rows, and `device` does it.
    """
    once = _timed(work, 1, device)
    if once >= SLOW:
        return once
    best = float("inf")
    for _ in range(3):
        best = min(best, _timed(work, batch, device) / batch)
        if best * batch > 2.0:
            break
    return best


@torch.no_grad()
def drawing_speed(model: Model, sampler: Sampler, batch: int) -> Speed:
    """What an image takes, drawn as `sampler` says and `batch` at a time."""
    middle, known = model.process.schedule.quantile(torch.tensor([0.5])), model.encode([""])

    def noise(count: int) -> torch.Tensor:
        return model.initial_noise(range(count), sampler.height, sampler.width)

    row = seconds_each(lambda count: model.predict(noise(count), middle.expand(count), known.repeat(count)), batch,
                       model.device)
    decode = seconds_each(lambda count: model.decode(noise(count)).cpu(), batch, model.device)
    return Speed(row, decode, model.denoiser.guided)


def _timed(work: Callable[[int], object], count: int, device: torch.device) -> float:
    began = time.perf_counter()
    work(count)
    runtime.wait_for(device)
    return time.perf_counter() - began
