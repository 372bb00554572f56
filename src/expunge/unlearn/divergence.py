"""How far the student's prediction is from where it should be: the squared gap, or a divergence that grows otherwise.

With m the mean squared gap of one sample over its c*h*w entries, and the predictions read as means of two normal
distributions of variance sigma^2:

    squared     m
    hellinger   8 sigma^2 (1 - exp(-m / (8 sigma^2)))    gradient times exp(-m / 8 sigma^2): large gaps count less
    chi2        sigma^2 (exp(m / sigma^2) - 1)           gradient times exp(m / sigma^2):    large gaps count more

Each is the divergence times the factor that makes it m where m is small, so that one is a drop-in for another: learning
rate and weights of other losses keep their meaning. The loss of a batch is the mean over its samples.

Source: f-DMU (2025, arXiv 2509.21167), closed forms; flosses.py. Differs: scaled to m as said (the published losses are
-exp(-m / 8 sigma^2) and exp(m / sigma^2), weighted over t by omega_t; ours leaves t unweighted).
"""

from __future__ import annotations

from typing import Annotated, Literal, Protocol

from torch import Tensor

from expunge.config import ByKind, Settings, knob


class Divergence(Protocol):
    """Settings of a distance between predictions."""

    def of(self, m: Tensor) -> Tensor:
        """(B,) from (B,) mean squared gaps; differentiable."""
        ...


class Squared(Settings):
    """The mean squared gap itself."""

    kind: Literal["squared"] = "squared"

    def of(self, m: Tensor) -> Tensor:
        """m."""
        return m


class Hellinger(Settings):
    """Squared Hellinger distance of two normals; bounded, so samples that are far off do not rule the step."""

    kind: Literal["hellinger"] = "hellinger"
    sigma: float = knob(1.0, "Standard deviation of the normals; the smaller, the sooner large gaps are let go", gt=0.0,
                        source="f-DMU; our default")

    def of(self, m: Tensor) -> Tensor:
        """8 sigma^2 (1 - exp(-m / 8 sigma^2)); by expm1, for m is often small."""
        scale = 8.0 * self.sigma**2
        return -scale * (-m / scale).expm1()


class ChiSquare(Settings):
    """Chi-square divergence of two normals; explodes with the gap, so samples that are far off rule the step."""

    kind: Literal["chi2"] = "chi2"
    sigma: float = knob(1.0, "Standard deviation of the normals; the smaller, the more large gaps rule", gt=0.0,
                        source="f-DMU; our default")

    def of(self, m: Tensor) -> Tensor:
        """sigma^2 (exp(m / sigma^2) - 1); infinite where m > 88 sigma^2, which stops a run."""
        scale = self.sigma**2
        return scale * (m / scale).expm1()


AnyDivergence = Annotated[Squared | Hellinger | ChiSquare, ByKind("loss")]
"""Every divergence that settings can name."""

SQUARED = Squared()
"""What stands wherever no other divergence is named."""


def divergence(kind: Divergence, out: Tensor, wanted: Tensor) -> Tensor:
    """Mean over the batch of `kind` between predictions, each (B, c, h, w); a scalar with gradient."""
    return kind.of((out - wanted).square().flatten(1).mean(1)).mean()
