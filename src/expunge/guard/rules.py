"""One step of a mask, given how the upper loss changes with it: ours, and the one that was published.

    g_i = d L_upper / d m_i = sum over the group of <theta_pre - theta_ft, dL/dtheta>

    projected   x <- x - g / RMS(g) (by numel: of g per parameter);   m = the projection of z / T on the ratio,
                z_i = k (share of the model below i by x  -  1/2),   k rising from 0 to `sharpness` with the steps
    released    x <- x - rate * g * m (1 - m) / T - c * d/dx (rho - mean m)^2

The projected rule divides by a running RMS, so the scale of the loss does not matter; a saturated m moves as freely as
any other; and scores enter the mask by rank. Their sizes have heavy tails (per parameter, a bias scores a thousand
times a convolution), so a mask that followed them would settle a few small tensors and leave all others half frozen to
the end, far from any mask that can be enforced.

Source: Huang et al. 2024 (FreezeAsGuard, 2405.17472), mask_learner.py@12856a8:1060-1175 (released); the projected rule
is ours. Differs: none (released); everything named above (projected).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from expunge.guard.ratio import relaxed

_DECAY = 0.95
"""Of the running mean square."""


@dataclass
class ProjectedRule:
    """State of a mask that is learned by the projected rule; all entries start equal.

    Attributes:
        x: float64 (groups,), changed in place, as is `done` (3,): running mean square of g, its weight, steps.
        weights: of the groups, in what the ratio is counted. steps: after which the mask is as sharp as it gets.
    """

    x: Tensor
    done: Tensor
    weights: Tensor
    ratio: float
    temperature: float
    sharpness: float
    steps: int
    density: bool

    @classmethod
    def fresh(cls, weights: Tensor, ratio: float, temperature: float, sharpness: float, steps: int, density: bool
              ) -> ProjectedRule:
        """Equal entries. With `density`, g is taken per parameter (ratio by numel)."""
        return cls(torch.zeros(len(weights), dtype=torch.float64), torch.zeros(3, dtype=torch.float64), weights, ratio,
                   temperature, sharpness, steps, density)

    @property
    def m(self) -> Tensor:
        """float64 (groups,) in [0, 1], of weighted mean `ratio`."""
        k = self.sharpness * min(1.0, float(self.done[2]) / self.steps)
        return relaxed(k * (_below(self.x, self.weights) - 0.5), self.ratio, self.weights, self.temperature)

    def step(self, g: Tensor) -> None:
        """Take one step against g, float64 (groups,). All-zero g moves nothing."""
        g = g / self.weights if self.density else g
        self.done[:2].mul_(_DECAY).add_((1 - _DECAY) * torch.stack([g.square().mean(), torch.ones((), dtype=g.dtype)]))
        self.done[2] += 1
        rms = (self.done[0] / self.done[1]).sqrt()
        if rms > 0:
            self.x.sub_(g / rms)


def _below(x: Tensor, weights: Tensor) -> Tensor:
    """Share of all weight that lies below each entry, with half of its own and of its equals': 1/2 where all are equal.
    """
    _, place = torch.unique(x, return_inverse=True)
    each = torch.zeros(int(place.max()) + 1, dtype=torch.float64).index_add_(0, place, weights)
    return ((each.cumsum(0) - each / 2) / each.sum())[place]


@dataclass
class ReleasedRule:
    """State of a mask that is learned as published.

    Attributes:
        x: float64 (groups,), changed in place; starts uniform in [0, 1).
    """

    x: Tensor
    ratio: float
    temperature: float
    rate: float
    sparsity: float

    @property
    def m(self) -> Tensor:
        """float64 (groups,) in (0, 1)."""
        return torch.sigmoid(self.x / self.temperature)

    def step(self, g: Tensor) -> None:
        """Take one step against g, float64 (groups,)."""
        m = self.m
        slope = m * (1 - m) / self.temperature  # dm/dx
        pull = -2 * (self.ratio - m.mean()) * slope / len(m)
        self.x.sub_(self.rate * g * slope + self.sparsity * pull)
