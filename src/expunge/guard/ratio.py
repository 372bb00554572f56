"""Exact ratios: a relaxed mask whose mean is the ratio, and a hard one with as many tensors or parameters frozen.

    m_i(lambda) = sigmoid((x_i + lambda) / T),   lambda such that  sum_i w_i m_i / sum_i w_i = rho

w_i is 1 (ratio by count) or the number of parameters in group i (by numel). The mean rises with lambda from 0 to 1, so
bisection finds it. Hard masks are greedy by score: the best groups that still fit into rho * sum w.

Source: ours, against the squared penalty of Huang et al. 2024 (FreezeAsGuard, 2405.17472), which misses the ratio or
drowns the scores. Differs: see there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from expunge.errors import UserError
from expunge.records.freezing import Granularity, Measure

_CLOSE = 1e-3
"""Share of the parameters by which a ratio by numel may be missed from below, before smaller groups are looked for."""
_UNITS = 1_000_000
"""Sums of sizes are told apart in this many units."""


@dataclass(frozen=True)
class Groups:
    """Tensors that are frozen together.

    Attributes:
        names: of all tensors, in the model's order. sizes: parameters in each.
        of: int64 (tensors,), the group of each; labels: of the groups.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    of: Tensor
    labels: tuple[str, ...]

    @classmethod
    def by(cls, sizes: Mapping[str, int], granularity: Granularity) -> Groups:
        """The groups of these tensors (full name -> parameters)."""
        label = {name: _label(name, granularity) for name in sizes}
        labels = tuple(dict.fromkeys(label.values()))
        place = {text: number for number, text in enumerate(labels)}
        return cls(tuple(sizes), tuple(sizes.values()), torch.tensor([place[label[name]] for name in sizes]), labels)

    def weights(self, by: Measure) -> Tensor:
        """float64 (groups,): tensors or parameters in each."""
        return self.summed(torch.tensor(self.sizes, dtype=torch.float64) if by == "numel" else
                           torch.ones(len(self.names), dtype=torch.float64))

    def summed(self, values: Tensor) -> Tensor:
        """float64 (groups,) from float64 (tensors,)."""
        return torch.zeros(len(self.labels), dtype=torch.float64).index_add_(0, self.of, values.double())

    def spread(self, values: Tensor) -> Tensor:
        """(tensors,) from (groups,): each tensor has its group's value."""
        return values[self.of]


def _label(name: str, granularity: Granularity) -> str:
    """ "unet/down_blocks.0.attentions.1.proj_in.weight": itself, without ".weight", or "unet/down_blocks.0"."""
    if granularity == "tensor":
        return name
    module = name.rpartition(".")[0]
    if granularity == "module":
        return module
    path = module.split(".")
    return ".".join(path[:2] if path[1:2] and path[1].isdigit() else path[:1])


def relaxed(x: Tensor, ratio: float, weights: Tensor, temperature: float) -> Tensor:
    """m float64 (groups,) of `x` after the one shift that makes its weighted mean the ratio, to within 1e-9.

    Ratio 0 and 1 are zeros and ones.
    """
    if ratio in (0.0, 1.0):
        return torch.full_like(x, ratio)
    w = weights / weights.sum()
    reach = float((x.max() - x.min()).abs()) + 50 * temperature
    low, high = -float(x.max()) - reach, -float(x.min()) + reach
    for _ in range(200):
        middle = (low + high) / 2
        m = torch.sigmoid((x + middle) / temperature)
        mean = float((w * m).sum())
        if abs(mean - ratio) < 1e-9:
            break
        low, high = (middle, high) if mean < ratio else (low, middle)
    return m


def hardened(scores: Tensor, ratio: float, weights: Tensor) -> Tensor:
    """Which groups are frozen, bool (groups,): the best by score, passing over what no longer fits.

    Equal scores go by the groups' order. By count this is the top k; by numel the greedy solution of a knapsack, where
    `scores` are per parameter. It ends within 0.1% of the ratio: a gap that small is not filled with what nobody wants
    frozen.
    """
    whole = float(weights.sum())
    budget, frozen, used = ratio * whole, torch.zeros(len(scores), dtype=torch.bool), 0.0
    alike = bool((weights == 1).all())
    slack = 0.5 if alike else 1e-6  # by count, k is the nearest whole number
    for place in torch.argsort(scores, descending=True, stable=True).tolist():
        if not alike and ratio < 1 and budget - used <= _CLOSE * whole:
            break
        if used + float(weights[place]) <= budget + slack:
            frozen[place], used = True, used + float(weights[place])
    return frozen


def check_ratio(ratio: float, groups: Groups, by: Measure) -> None:
    """Whether some set of whole groups has that share, to within one tensor; told before any computing.

    Raises:
        UserError: outside [0, 1], or no set has.
    """
    if not 0 <= ratio <= 1:
        raise UserError(f"a ratio of {ratio:g}", accepted="0 (nothing is frozen) to 1 (everything)")
    weights = groups.weights(by)
    total, target = float(weights.sum()), ratio * float(weights.sum())
    nearest = _nearest(weights, target)
    if abs(nearest - target) > tolerance(groups, by) + total * len(weights) / _UNITS:
        raise UserError(f"a ratio of {ratio:g} by {by} over {len(groups.labels)} groups, whose nearest sets freeze "
                        f"{nearest / total:.3g}", accepted="a share that whole groups have, to within one tensor",
                        remedy="freeze by a finer granularity (tensor), or ask for another ratio")


def tolerance(groups: Groups, by: Measure) -> float:
    """One tensor: 1 by count, the parameters of the largest by numel."""
    return float(max(groups.sizes)) if by == "numel" else 1.0


def _nearest(weights: Tensor, target: float) -> float:
    """The sum of a set of the weights that is nearest to `target`, to within a unit per group."""
    unit = max(1.0, float(weights.sum()) / _UNITS)
    sums = 1  # bit k: some set sums to k units
    for weight in weights.tolist():
        sums |= sums << round(weight / unit)
    goal = round(target / unit)
    below, above = sums & ((1 << (goal + 1)) - 1), sums >> goal
    candidates = [below.bit_length() - 1, *([goal + (above & -above).bit_length() - 1] if above else [])]
    return min(candidates, key=lambda k: abs(k - goal)) * unit
