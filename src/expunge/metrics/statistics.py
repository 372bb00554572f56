"""How sure we are: score intervals for rates and their changes, bootstrap over prompts for everything else.

Pictures of one prompt resemble one another, so the prompt is the unit: rates count pictures, and their intervals count
as many pictures as the same certainty would take if each had a prompt of its own. Nothing here guesses: where nothing
was measured there is no value and no interval.

Source: Wilson 1927 (score interval); Korn and Graubard 1998 and Dean and Pagano 2015 (effective sample size in it);
Agresti and Min 2005 (paired differences of rates); Efron and Tibshirani 1993, chapters 13 (percentile interval) and 8
(groups as units). Differs: the effective sample size is at least the number of prompts and at most that of pictures.
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


BY_PROMPT = "95% Wilson, prompts as units"
"""What a score says of `rate_interval`."""


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
    return wilson_of(successes / n, n, confidence)


def wilson_of(p: float, n: float, confidence: float = 0.95) -> tuple[float, float]:
    """The same of a rate p in [0, 1] that rests on n > 0 trials, which need not be a whole number."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2)
    return (0.0 if p == 0 else centre - half), (1.0 if p == 1 else centre + half)


def effective_size(hits_by_group: Groups) -> float:
    """How many independent pictures are worth as much as these, whose groups (prompts) hold alike ones.

    n* = p (1 - p) / v with v the variance of the rate p as a ratio over groups; between the number of groups and that
    of pictures. Where all pictures agree nothing tells how alike those of a group are: then the number of groups. A
    single group is its own population, of which the pictures (seeds) are the sample: then the number of pictures.
    """
    sizes = np.array([len(values) for values in hits_by_group.values() if len(values)], dtype=np.float64)
    hits = np.array([sum(values) for values in hits_by_group.values() if len(values)], dtype=np.float64)
    n, groups = sizes.sum(), len(sizes)
    if groups <= 1 or n == groups:
        return float(n)
    p = hits.sum() / n
    variance = groups / (groups - 1) * ((hits - p * sizes) ** 2).sum() / n**2
    if variance <= 0 or p in (0, 1):
        return float(groups)
    return float(min(n, max(groups, p * (1 - p) / variance)))


def rate_interval(hits_by_group: Groups, confidence: float = 0.95) -> tuple[float, float] | tuple[None, None]:
    """Wilson's interval of a rate over pictures in groups, with the effective number of pictures.

    Args:
        hits_by_group: 1 or 0 for each picture, by prompt.
    """
    n, hits = sum(map(len, hits_by_group.values())), sum(sum(values) for values in hits_by_group.values())
    if not n:
        return None, None
    return wilson_of(hits / n, effective_size(hits_by_group), confidence)


def change_interval(changes_by_group: Groups, confidence: float = 0.95) -> Estimate:
    """Mean change of a rate over pictures that are paired, with an interval that is never empty.

    With groups of weights w (their shares of all pairs) and mean changes d, m = 1 / sum w^2 groups of equal weight are
    worth as much. Two pairs are added, half a pair up, half a pair down and one without a change, and Wald's interval
    is taken of the m + 2. So "no change in 12 of 12" is no proof of none.

    Args:
        changes_by_group: -1, 0 or 1 for each pair of pictures, by prompt.
    """
    groups = [list(values) for values in changes_by_group.values() if len(values)]
    if not groups:
        return NOTHING
    if len(groups) == 1:  # its seeds are the sample, as in `effective_size`
        groups = [[value] for value in groups[0]]
    d, sizes = np.array([np.mean(values) for values in groups]), np.array([len(values) for values in groups])
    w = sizes / sizes.sum()
    m, z, value = 1 / (w**2).sum(), NormalDist().inv_cdf((1 + confidence) / 2), float((w * d).sum())
    centre = value * m / (m + 2)
    half = z * math.sqrt(max(0.0, ((w * d**2).sum() * m + 1) / (m + 2) - centre**2) / (m + 2))
    return Estimate(value, float(max(-1.0, min(value, centre - half))), float(min(1.0, max(value, centre + half))))


def at_once(count: int, confidence: float = 0.95) -> float:
    """The confidence of each of `count` intervals that hold all at once with `confidence` (Bonferroni)."""
    return 1 - (1 - confidence) / max(1, count)


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
