"""Losses that hold on to the past, as terms of a recipe's step: replayed erasures, the original elsewhere, weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Parameter

from expunge.sequence.memory import ReplayBuffer, encoded
from expunge.sequence.strategy import WeightAnchor
from expunge.train import step_generator
from expunge.unlearn.context import NoisyBatch, TrainContext
from expunge.unlearn.objective import Term


@dataclass(frozen=True)
class ReplayBatch:
    """What a step looks at of the past.

    Attributes:
        memories: one at least, none of them empty; each of the points is of one that is drawn uniformly.
        weight: factor of the loss; batch: points of a look; name: keeps its draws apart from others'.
    """

    memories: Sequence[ReplayBuffer]
    weight: float
    batch: int
    name: str

    def drawn(self, seed: int, number: int) -> list[tuple[ReplayBuffer, int]]:
        """Points of a step, as memories and places in them."""
        generator = step_generator(seed, number, self.name)
        chosen = [self.memories[int(torch.randint(len(self.memories), (), generator=generator))]
                  for _ in range(self.batch)]
        return [(memory, int(torch.randint(len(memory.prompts), (), generator=generator))) for memory in chosen]


def recalled(context: TrainContext, parts: Sequence[ReplayBatch], every: int = 1) -> Term:
    """every * sum over parts of weight * mean |eps_theta(x_t, t, p) - z|^2, in every `every`-th step.

    One forward has the points of all parts: small batches cost nearly as much as larger ones.

    Args:
        parts: one at least, each with a name of its own.
    """
    rows, known = encoded(context.teacher, [text for part in parts for memory in part.memories
                                          for text in memory.prompts])
    weights = torch.cat([torch.full((part.batch,), every * part.weight / part.batch) for part in parts])

    def points(number: int) -> tuple[NoisyBatch, Tensor]:
        picked = [point for part in parts for point in part.drawn(context.seed, number)]
        prompts = tuple(memory.prompts[i] for memory, i in picked)
        x_t, t, z = (torch.stack([getattr(memory, field)[i] for memory, i in picked]) for field in ("x_t", "t", "z"))
        places = torch.tensor([rows[prompt] for prompt in prompts])
        return NoisyBatch(x_t, t, prompts, known.at(places)), z

    def loss(number: int) -> Tensor:
        here, z = points(number)
        out = context.student.predict(here.x_t, here.t, context.condition(here))
        return (weights.to(out) * (out - z).square().flatten(1).mean(1)).sum()

    return Term(loss, every=every)


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
