"""How sure we are: Wilson intervals for rates, bootstrap over prompts for everything else.

Pictures of one prompt resemble one another, so the prompt is the unit that is resampled and its seeds stay with it.
Nothing here guesses: where nothing was measured there is no value and no interval.

Source: Wilson 1927 (score interval); Efron and Tibshirani 1993, chapters 13 (percentile interval) and 8 (groups as
units). Differs: none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from expunge.errors import ExpungeError

Groups = Mapping[str, Sequence[float]]
"""Values by prompt; one value per seed."""


class Estimate(NamedTuple):
    """A value with the ends of its interval; None where there is nothing to say."""

    value: float | None
    low: float | None
    high: float | None


NOTHING = Estimate(None, None, None)


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float] | tuple[None, None]:
    """Wilson score interval of a rate, (None, None) when n is 0.

    Raises:
        ExpungeError: counts that cannot be (negative, or more successes than trials).
    """
    if not 0 <= successes <= n:
        raise ExpungeError(f"{successes} successes in {n} trials", accepted="0 <= successes <= trials")
    if n == 0:
        return None, None
    z, p = NormalDist().inv_cdf((1 + confidence) / 2), successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2)
    return (0.0 if successes == 0 else centre - half), (1.0 if successes == n else centre + half)


def resamples(count: int, draws: int, seed: int) -> np.ndarray:
    """int64 (draws, count): indices of `count` groups, drawn with replacement."""
    return np.random.default_rng(seed).integers(0, count, (draws, count))


def percentiles(values: np.ndarray, confidence: float = 0.95) -> tuple[float, float] | None:
    """The central interval of bootstrap values (draws,); None unless all are finite."""
    if not len(values) or not np.isfinite(values).all():
        return None
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def bootstrap_over_groups(values_by_group: Groups, draws: int = 2000, seed: int = 0) -> Estimate:
    """Mean over groups of the mean within the group; groups are resampled, what is in them stays together.

    Args:
        values_by_group: values by prompt; empty groups count as not measured.
        draws: bootstrap draws.
        seed: of the resampling.

    Returns:
        No value when there is no group, no interval when there is only one.

    Raises:
        ExpungeError: a value is not finite.
    """
    means = group_means(values_by_group)
    if not len(means):
        return NOTHING
    value = float(means.mean())
    if len(means) == 1:
        return Estimate(value, None, None)
    interval = percentiles(means[resamples(len(means), draws, seed)].mean(1))
    return Estimate(value, *(interval or (None, None)))


def paired_difference(after: Groups, before: Groups, draws: int = 2000, seed: int = 0) -> Estimate:
    """Mean over groups of (after - before), each the mean of its group; both are resampled together.

    Raises:
        ExpungeError: a group is missing on one side or differs in size, or a value is not finite.
    """
    odd = sorted(key for key in {*after, *before} if len(after.get(key, ())) != len(before.get(key, ())))
    if odd:
        raise ExpungeError(f"unpaired values for {len(odd)} prompts (first: {odd[0]!r})",
                           accepted="as many values before as after, for every prompt")
    return bootstrap_over_groups({key: [a - b for a, b in zip(after[key], before[key], strict=True)]
                                  for key in after}, draws, seed)


def group_means(values_by_group: Groups) -> np.ndarray:
    """float64 (groups,): the mean of each group that is not empty, in the mapping's order.

    Raises:
        ExpungeError: a value is not finite.
    """
    means = np.array([np.mean(values, dtype=np.float64) for values in values_by_group.values() if len(values)])
    if not np.isfinite(means).all():
        raise ExpungeError("a measured value is not a finite number", accepted="finite values",
                           remedy="look for broken pictures among those drawn")
    return means


def bootstrap_words(estimate: Estimate, draws: int, seed: int) -> str:
    """How an interval was made, for `Score.interval`; "" where there is none."""
    return f"95% bootstrap over prompts, {draws} draws, seed {seed}" if estimate.low is not None else ""
