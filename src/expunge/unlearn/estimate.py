"""What a run would take, measured on the model itself before it begins."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import Parameter

from expunge import runtime
from expunge.models.conditioning import Conditioning
from expunge.models.model import Model
from expunge.models.speed import seconds_each
from expunge.unlearn.weights import training


def seconds_per_sample(model: Model, params: Mapping[str, Parameter], prompt: str, frozen_batch: int, batch: int
                       ) -> tuple[float, float]:
    """Seconds per UNet sample: without gradient at the frozen batch, and with gradient to `params` at `batch`."""
    middle = model.process.schedule.quantile(torch.tensor([0.5]))
    with torch.no_grad():
        known = model.encode([prompt])

    def forward(count: int, cond: Conditioning) -> Tensor:
        return model.predict(model.initial_noise(range(count)), middle.expand(count), cond)

    def frozen(count: int) -> None:
        with torch.no_grad():
            forward(count, known.repeat(count))

    def trained(count: int) -> None:
        cond = model.encode([prompt] * count) if model.trains_text(params) else None
        forward(count, cond or known.repeat(count)).square().mean().backward()

    without = seconds_each(frozen, frozen_batch)
    with training(params):
        return without, seconds_each(trained, batch)


def seconds(work: Callable[[], None]) -> float:
    """Shortest of three runs; of one if that takes more than two seconds."""
    best = float("inf")
    for _ in range(3):
        began = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
        if best > 2.0:
            break
    return best


def training_memory(model: Model, trained: int, pooled: int) -> int | None:
    """Bytes of the process: the peak so far (weights, one training step) and what a run adds to it.

    That is the teacher, the optimizer, the originals and the pools, for so many trained parameters and pooled points.
    """
    teacher = sum(p.numel() for p in model.parameters_in("all").values())
    c, h, w = model.latent_shape
    return memory(4 * (teacher + 3 * trained + 2 * pooled * c * h * w))


def memory(more: int) -> int | None:
    """Bytes of the process's peak so far and `more`; None where the system does not tell."""
    peak = runtime.peak_memory()
    return None if peak is None else peak + more
