"""Losses that hold on to the past, as terms of a recipe's step: replayed erasures, the original elsewhere, weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import Parameter

from expunge.sequence.memory import Memory, encoded
from expunge.sequence.strategy import WeightAnchor
from expunge.train import step_generator
from expunge.unlearn.bench import Bench, Points
from expunge.unlearn.objective import Term


def recalled(bench: Bench, memories: Sequence[Memory], weight: float, batch: int, name: str) -> Term:
    """weight * mean |eps_theta(x_t, t, p) - z|^2 over `batch` points, each of a memory drawn uniformly.

    Args:
        memories: one at least, none of them empty.
        name: keeps its draws apart from others'.
    """
    rows, known = encoded(bench.teacher, [prompt for memory in memories for prompt in memory.prompts])

    def points(number: int) -> tuple[Points, Tensor]:
        generator = step_generator(bench.seed, number, name)
        chosen = [memories[int(torch.randint(len(memories), (), generator=generator))] for _ in range(batch)]
        at = [int(torch.randint(len(memory.prompts), (), generator=generator)) for memory in chosen]
        picked = list(zip(chosen, at, strict=True))
        prompts = tuple(memory.prompts[i] for memory, i in picked)
        x_t, t, z = (torch.stack([getattr(memory, field)[i] for memory, i in picked]) for field in ("x_t", "t", "z"))
        places = torch.tensor([rows[prompt] for prompt in prompts], device=known.ids.device)
        return Points(x_t, t, prompts, known.at(places)), z

    def loss(number: int) -> Tensor:
        here, z = points(number)
        out = bench.student.predict(here.x_t, here.t, bench.condition(here))
        return weight * (out - z).square().mean()

    return Term(loss)


def anchored(params: Mapping[str, Parameter], anchor: Mapping[str, Tensor], settings: WeightAnchor,
             metric: Mapping[str, Tensor] | None) -> Term:
    """weight/2 * mean M (theta - anchor)^2 over all of `params`; M 1 where there is no metric.

    Args:
        anchor, metric: by the names of `params`, of their shapes.
    """
    size = sum(p.numel() for p in params.values())
    M = {name: torch.ones(()).to(p) if metric is None else metric[name].to(p) for name, p in params.items()}

    def loss(number: int) -> Tensor:
        parts = [(M[name] * (p - anchor[name]).square()).sum() for name, p in params.items()]
        return settings.weight / 2 * torch.stack(parts).sum() / size

    return Term(loss)
