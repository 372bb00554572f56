"""One step of a mask, given how the upper loss changes with it: ours, and the one that was published.

    g_i = d L_upper / d m_i = sum over the group of <theta_pre - theta_ft, dL/dtheta>

    projected   x <- x - rate * g / RMS(g);  the shift that makes the mean of sigmoid(x / T) the ratio
    released    x <- x - rate * g * m (1 - m) / T - c * d/dx (rho - mean m)^2

Where the projected rule divides by a running RMS over all groups and steps, the scale of the loss does not matter;
the shift keeps the ratio without touching the order; and a saturated m moves as freely as any other.

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
        x: float64 (groups,), changed in place, as is `square` (2,): running mean square of g, and its weight.
    """

    x: Tensor
    square: Tensor
    weights: Tensor
    ratio: float
    temperature: float
    rate: float
    density: bool

    @classmethod
    def fresh(cls, weights: Tensor, ratio: float, temperature: float, rate: float, density: bool) -> ProjectedRule:
        """Equal entries. With `density`, g is taken per parameter (ratio by numel)."""
        x = torch.zeros(len(weights), dtype=torch.float64)
        return cls(x, torch.zeros(2, dtype=torch.float64), weights, ratio, temperature, rate, density)

    @property
    def m(self) -> Tensor:
        """float64 (groups,) in [0, 1], of weighted mean `ratio`."""
        return relaxed(self.x, self.ratio, self.weights, self.temperature)

    def step(self, g: Tensor) -> None:
        """Take one step against g, float64 (groups,). All-zero g changes nothing."""
        g = g / self.weights if self.density else g
        self.square.mul_(_DECAY).add_((1 - _DECAY) * torch.stack([g.square().mean(), torch.ones((), dtype=g.dtype)]))
        rms = (self.square[0] / self.square[1]).sqrt()
        if rms > 0:
            self.x.sub_(self.rate * g / rms)


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
