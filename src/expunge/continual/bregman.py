"""Bregman divergences: what the terms of a continual-learning objective measure distance with.

For a strictly convex, differentiable G,

    D_G(p, q) = G(p) - G(q) - <grad G(q), p - q>  >= 0,   and 0 only where p = q.

    squared            G = 1/2 |v|^2             1/2 |p - q|^2, in either order
    negative entropy   G = sum p log p           KL(p || q) on the simplex
    quadratic          G = 1/2 v^T M v           1/2 (p - q)^T M (p - q), M diagonal, by name of parameter
    Gaussians          G = sum log of the        KL of two diagonal normals, p and q being their first and second
                       density, expected         moments: 1/2 [r^2 + (m_p - m_q)^2 / s_q^2 - 1] - log r, r = s_p / s_q

`by_definition` takes any G and differentiates it; the closed forms are held to it by tests.

Source: Wang et al. 2024 (refresh learning, ICLR), table 1. Differs: the table writes D(h, z), output
first, for every method; cross-entropy to a one-hot target is KL(z || h), target first, and infinite the other way
round. So negative entropy is target-first here, unless it is told otherwise (`first`): penalising confidence (CPR)
needs the output first. A root of a divergence (`RootDivergence`, for FDR) is no Bregman divergence; it is here because
FDR needs it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Literal, Protocol

import torch
from torch import Tensor

from expunge.config import ByKind, Settings, knob
from expunge.errors import ExpungeError

MEAN, LOG_STD = "/mean", "/log_std"
"""How the names of parameters end that are means and logs of standard deviations of normals."""


@torch.no_grad()
def by_definition(G: Callable[[Tensor], Tensor], p: Tensor, q: Tensor) -> Tensor:
    """D_G(p, q) (B,) of rows (B, ...), by differentiating G, which gives (B,) from (B, ...). No gradient."""
    with torch.enable_grad():
        at = q.detach().requires_grad_(True)
        value = G(at)
        (slope,) = torch.autograd.grad(value.sum(), at)
    return G(p) - value.detach() - (slope * (p - q)).flatten(1).sum(1)


class OutputDivergence(Protocol):
    """Settings of a distance between what a model gives and what it should.

    Attributes:
        space: "output": rows are compared as the model gives them; "probabilities": as softmax.
    """

    @property
    def space(self) -> Literal["output", "probabilities"]: ...

    def target(self, output: Tensor) -> Tensor:
        """A stored or old output (B, ...) as a target; no gradient."""
        ...

    def between(self, target: Tensor, output: Tensor) -> Tensor:
        """(B,): distance of the model's outputs (B, ...) from targets in `space`; differentiable in the outputs."""
        ...


class SquaredDivergence(Settings):
    """1/2 |target - output|^2 of each row."""

    kind: Literal["squared"] = "squared"
    space: Literal["output", "probabilities"] = knob("output", "Compare rows as the model gives them, or as softmax")
    average: bool = knob(False, "Mean over a row's entries in the place of their sum")

    def potential(self, v: Tensor) -> Tensor:
        """G, (B,)."""
        each = 0.5 * v.square().flatten(1)
        return each.mean(1) if self.average else each.sum(1)

    def target(self, output: Tensor) -> Tensor:
        """The output itself, or its softmax."""
        return _seen(output.detach(), self.space)

    def between(self, target: Tensor, output: Tensor) -> Tensor:
        """(B,)."""
        return self.potential(target - _seen(output, self.space))


class RootDivergence(Settings):
    """|target - output| of each row, not squared: the root of a divergence."""

    kind: Literal["distance"] = "distance"
    space: Literal["output", "probabilities"] = knob("probabilities", "Compare rows as the model gives them, or as "
                                                     "softmax", source="Benjamin et al. 2019 (FDR)")

    def target(self, output: Tensor) -> Tensor:
        """The output itself, or its softmax."""
        return _seen(output.detach(), self.space)

    def between(self, target: Tensor, output: Tensor) -> Tensor:
        """(B,); its gradient is 0 where the two are equal."""
        apart: Tensor = torch.linalg.vector_norm((target - _seen(output, self.space)).flatten(1), dim=1)
        return apart


class NegativeEntropy(Settings):
    """KL divergence of distributions over the last axis; outputs are logits."""

    kind: Literal["negative entropy"] = "negative entropy"
    temperature: float = knob(1.0, "Logits are divided by it, targets' and outputs' alike", gt=0.0)
    first: Literal["target", "output"] = knob(
        "target", "Which distribution is averaged over: KL(target || output), as in cross-entropy, or the other way "
        "round, which is infinite for a target with a zero", source="Wang et al. 2024, table 1, writes output first")

    @property
    def space(self) -> Literal["output", "probabilities"]:
        """Probabilities."""
        return "probabilities"

    def potential(self, v: Tensor) -> Tensor:
        """G, (B,), of points of the simplex."""
        return torch.xlogy(v, v).flatten(1).sum(1)

    def target(self, output: Tensor) -> Tensor:
        """Softmax at the temperature."""
        return (output.detach() / self.temperature).softmax(-1)

    def between(self, target: Tensor, output: Tensor) -> Tensor:
        """(B,), summed over axes between the first and the last. Targets of exactly 0 cost nothing, target first."""
        logs = (output / self.temperature).log_softmax(-1)
        if self.first == "target":
            return (torch.xlogy(target, target) - target * logs).flatten(1).sum(1)
        return (logs.exp() * (logs - target.log())).flatten(1).sum(1)


AnyOutputDivergence = Annotated[SquaredDivergence | NegativeEntropy | RootDivergence, ByKind("divergence")]


class WeightDivergence(Protocol):
    """Settings of a distance between weights and where they were."""

    def between(self, weights: Mapping[str, Tensor], anchor: Mapping[str, Tensor], metric: Mapping[str, Tensor] | None
                ) -> Tensor:
        """A scalar, summed over all weights; differentiable in `weights`. `metric`: a factor for each weight."""
        ...


class Quadratic(Settings):
    """1/2 sum M (weight - anchor)^2, with a diagonal M >= 0; without one, M = 1."""

    kind: Literal["quadratic"] = "quadratic"

    def between(self, weights: Mapping[str, Tensor], anchor: Mapping[str, Tensor], metric: Mapping[str, Tensor] | None
                ) -> Tensor:
        """A scalar."""
        parts = []
        for name, w in weights.items():
            gap = (w - anchor[name]).square()
            parts.append((gap if metric is None else metric[name] * gap).sum())
        return 0.5 * torch.stack(parts).sum()


class Gaussians(Settings):
    """KL(q || q_old) of diagonal normals over weights. Parameters come in pairs, ".../mean" and ".../log_std".

    Source: Nguyen et al. 2018 (VCL).
    """

    kind: Literal["gaussians"] = "gaussians"

    def potential(self, v: Tensor) -> Tensor:
        """G, (B,), of first and second moments (B, 2, n): -1/2 sum log(second - first^2), constants left out."""
        first, second = v.unbind(1)
        return -0.5 * (second - first.square()).log().sum(-1)

    def between(self, weights: Mapping[str, Tensor], anchor: Mapping[str, Tensor], metric: Mapping[str, Tensor] | None
                ) -> Tensor:
        """A scalar.

        Raises:
            ExpungeError: a parameter that is neither mean nor log_std, or has no partner; a metric.
        """
        stems = [name.removesuffix(MEAN) for name in weights if name.endswith(MEAN)]
        odd = sorted(set(weights) - {stem + end for stem in stems for end in (MEAN, LOG_STD)})
        if odd or not stems or len(weights) != 2 * len(stems):
            raise ExpungeError(f"weights that are no normals (first: {(odd or [*weights, 'none'])[0]!r})",
                               accepted=f"pairs of parameters whose names end in {MEAN} and {LOG_STD}",
                               remedy="wrap the module with continual.MeanField")
        if metric is not None:
            raise ExpungeError("a metric for the divergence of normals", accepted="none: their spread is the metric")
        return torch.stack([_gaussian_kl(weights[s + MEAN], weights[s + LOG_STD], anchor[s + MEAN], anchor[s + LOG_STD])
                            for s in stems]).sum()


AnyWeightDivergence = Annotated[Quadratic | Gaussians, ByKind("divergence")]


def _gaussian_kl(mean: Tensor, log_std: Tensor, old_mean: Tensor, old_log_std: Tensor) -> Tensor:
    ratio = log_std - old_log_std
    return (0.5 * ((2 * ratio).exp() + ((mean - old_mean) / old_log_std.exp()).square() - 1) - ratio).sum()


def _seen(output: Tensor, space: Literal["output", "probabilities"]) -> Tensor:
    return output if space == "output" else output.softmax(-1)
