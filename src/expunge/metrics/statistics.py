"""How sure we are: score intervals for rates and their changes, bootstrap over prompts for everything else.

Images of one prompt resemble one another, so the prompt is the unit: rates count images, and their intervals count
as many images as the same certainty would take if each had a prompt of its own. Nothing here guesses: where nothing
was measured there is no value and no interval.

Source: Wilson 1927 (score interval); Korn and Graubard 1998 and Dean and Pagano 2015 (effective sample size in it);
Agresti and Min 2005 (paired differences of rates); Efron and Tibshirani 1993, chapters 13 (percentile interval) and 8
(groups as units); Hesterberg 2015, American Statistician 69(4) (that it is too narrow for few groups); Abramowitz and
Stegun 1964, 26.7.3 and 26.7.4 (Student's t). Differs: the effective sample size is at
most the number of images before Korn and Graubard's factor, and at least that of prompts of equal weight after it
(fewer no likeness of a prompt's images can make of them). There is no factor where each prompt has one image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from expunge.errors import ExpungeError

Groups = Mapping[str, Sequence[float]]
"""Values by prompt; one value per seed."""


_BLOCK = 2**18
"""Indices of resamples that are held at once: 2 MiB, whatever the number of prompts."""
BY_PROMPT = "95% Wilson, prompts as units"
"""What a score says of an interval whose images count by prompt."""
BOOTSTRAP = "bootstrap over prompts, widened for their number"
"""What it says of a `bootstrap_interval`."""


def interval_words(groups: Groups, kind: str = "Wilson") -> str:
    """How `rate_interval` (or `change_interval`) of these groups was made, for `Score.interval`; "" of none.

    The images of a prompt that is the only one are the units themselves.
    """
    sizes = [len(values) for values in groups.values() if len(values)]
    units = "images of one prompt as units, so it speaks of no other" if len(sizes) == 1 < sizes[0] else \
        "prompts as units"
    return f"95% {kind}, {units}" if sizes else ""


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


@lru_cache(maxsize=256)
def student(freedom: int, confidence: float = 0.95) -> float:
    """The t that |T| of Student's distribution on `freedom` >= 1 whole degrees of freedom stays below, so often."""
    low, high = 0.0, math.pi / 2
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if _within(middle, freedom) < confidence else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


def _within(angle: float, freedom: int) -> float:
    """P(|T| <= sqrt(freedom) tan(angle)): the finite series of Abramowitz and Stegun 26.7.3 (odd) and 26.7.4 (even)."""
    odd = freedom % 2
    term = math.cos(angle) if odd else 1.0
    total = term if freedom > 1 else 0.0
    for k in range(2 + odd, freedom - 1, 2):
        term *= math.cos(angle) ** 2 * (k - 1) / k
        total += term
    return (angle + math.sin(angle) * total) * 2 / math.pi if odd else math.sin(angle) * total


def effective_size(hits_by_group: Groups, confidence: float = 0.95) -> float:
    """How many independent images are worth as much as these, whose groups (prompts) hold alike ones.

    n* = p (1 - p) / v with v the variance of the rate p as a ratio over groups, times (z / t)^2 with t on one degree of
    freedom less than there are groups, for few of them tell little of v. It is at least 1 / sum w^2 with w the groups'
    shares of all images, which is their number where they are of one size. Where all images agree nothing tells how
    alike those of a group are: then it is the number of groups (one that weighs more has shown itself more often, so
    its weight takes no certainty away). A single group is its own population, of which the images (seeds) are
    the sample: then the number of images; such a rate speaks of that one prompt alone.
    """
    sizes = np.array([len(values) for values in hits_by_group.values() if len(values)], dtype=np.float64)
    hits = np.array([sum(values) for values in hits_by_group.values() if len(values)], dtype=np.float64)
    n, groups = sizes.sum(), len(sizes)
    if groups <= 1 or n == groups:
        return float(n)
    p = hits.sum() / n
    variance = groups / (groups - 1) * ((hits - p * sizes) ** 2).sum() / n**2
    least = n**2 / (sizes**2).sum()
    if p in (0, 1):
        return float(groups)
    factor = (NormalDist().inv_cdf((1 + confidence) / 2) / student(groups - 1, confidence)) ** 2
    return float(max(least, factor * (min(n, p * (1 - p) / variance) if variance > 0 else n)))


def rate_interval(hits_by_group: Groups, confidence: float = 0.95) -> tuple[float, float] | tuple[None, None]:
    """Wilson's interval of a rate over images in groups, with the effective number of images.

    It reaches as far as that of no hit, and as that of hits alone. A single hit shows no likeness within a prompt, and
    would else make the interval of 1 in 150 end below that of 0 in 150.

    Args:
        hits_by_group: 1 or 0 for each image, by prompt.
    """
    n, hits = sum(map(len, hits_by_group.values())), sum(sum(values) for values in hits_by_group.values())
    if not n:
        return None, None
    low, high = wilson_of(hits / n, effective_size(hits_by_group, confidence), confidence)
    groups = sum(len(values) > 0 for values in hits_by_group.values())
    none, whole = (wilson_of(p, groups if groups > 1 else n, confidence) for p in (0.0, 1.0))
    return min(low, whole[0]), max(high, none[1])


def change_interval(changes_by_group: Groups, confidence: float = 0.95) -> Estimate:
    """Mean change of a rate over images that are paired, with an interval that is never empty.

    With groups of weights w (their shares of all pairs) and mean changes d, m = 1 / sum w^2 groups of equal weight are
    worth as much. Two pairs are added, half a pair up, half a pair down and one without a change, and Wald's interval
    is taken of the m + 2. So "no change in 12 of 12" is no proof of none. Differs: Student's t on one degree of freedom
    less than there are groups, in place of the normal's z. With z, 8 pairs of which one in five falls are covered in
    83% of all samples, with t in 99%; from 24 on the two are alike.

    Args:
        changes_by_group: -1, 0 or 1 for each pair of images, by prompt.
    """
    groups = [list(values) for values in changes_by_group.values() if len(values)]
    if not groups:
        return NOTHING
    if len(groups) == 1:  # its seeds are the sample, as in `effective_size`
        groups = [[value] for value in groups[0]]
    d, sizes = np.array([np.mean(values) for values in groups]), np.array([len(values) for values in groups])
    w = sizes / sizes.sum()
    m, t, value = 1 / (w**2).sum(), student(max(1, len(groups) - 1), confidence), float((w * d).sum())
    centre = value * m / (m + 2)
    half = t * math.sqrt(max(0.0, ((w * d**2).sum() * m + 1) / (m + 2) - centre**2) / (m + 2))
    return Estimate(value, float(max(-1.0, min(value, centre - half))), float(min(1.0, max(value, centre + half))))


def at_once(count: int, confidence: float = 0.95) -> float:
    """The confidence of each of `count` intervals that hold all at once with `confidence` (Bonferroni)."""
    return 1 - (1 - confidence) / max(1, count)


def resamples(count: int, draws: int, seed: int) -> Iterator[np.ndarray]:
    """int64 (some, count): indices of `count` groups, drawn with replacement; `draws` rows in blocks.

    The numbers do not depend on the blocks, for a generator goes on where it stood.
    """
    generator = np.random.default_rng(seed)
    block = max(1, _BLOCK // max(1, count))
    for first in range(0, draws, block):
        yield generator.integers(0, count, (min(block, draws - first), count))


def resampled(count: int, draws: int, seed: int, statistic: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """float64 (draws,): a statistic (some, count) -> (some,) of resamples, at any time of one block of them."""
    blocks = [statistic(rows) for rows in resamples(count, draws, seed)]
    return np.concatenate(blocks) if blocks else np.empty(0)


def percentiles(values: np.ndarray, confidence: float = 0.95) -> tuple[float, float] | None:
    """The central interval of bootstrap values (draws,); None unless all are finite."""
    if not len(values) or not np.isfinite(values).all():
        return None
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def bootstrap_interval(drawn: np.ndarray, value: float, freedom: int, groups: int, confidence: float = 0.95,
                       least: float = -math.inf, most: float = math.inf) -> tuple[float, float] | None:
    """The central interval of bootstrap values (draws,), wide enough for few groups; None unless all are finite.

    Its ends are moved away from the value by the factor sqrt(G / (G - B)) t / z, with t of Student's distribution on
    G - B degrees of freedom, G groups in B strata of their own: resampling takes the spread of G groups for that of
    G - B, and the normal's quantile for Student's. Means of 3, 6 and 20 normal values miss the truth in 26%, 15% and
    6.5% of all samples without it, in some 5% with it. Source: Hesterberg 2015 (narrowness bias). Differs: he takes
    outer percentiles in place of a factor, which of few groups are the least and the largest value drawn.

    Args:
        drawn: the statistic of each resample. value: of the groups themselves.
        freedom: G - B; without any there is no interval. groups: G.
        least, most: values that the ends do not exceed, unless the value itself does.
    """
    ends = percentiles(drawn, confidence) if freedom > 0 else None
    if ends is None:
        return None
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    more = math.sqrt(groups / freedom) * student(freedom, confidence) / z - 1
    low, high = (end + more * sign * abs(end - value) for end, sign in zip(ends, (-1, 1), strict=True))
    return max(min(least, value), low), min(max(most, value), high)


def bootstrap_over_groups(values_by_group: Groups, draws: int = 2000, seed: int = 0, *, least: float = -math.inf,
                          most: float = math.inf) -> Estimate:
    """Mean over groups of the mean within the group; groups are resampled, what is in them stays together.

    Args:
        values_by_group: values by prompt; empty groups count as not measured.
        draws: bootstrap draws.
        seed: of the resampling.
        least, most: what no mean can exceed.

    Returns:
        No value when there is no group, no interval when there is only one.

    Raises:
        ExpungeError: a value is not finite.
    """
    means = group_means(values_by_group)
    if not len(means):
        return NOTHING
    value = float(means.mean())
    drawn = resampled(len(means), draws, seed, lambda rows: means[rows].mean(1))
    interval = bootstrap_interval(drawn, value, len(means) - 1, len(means), least=least, most=most)
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
                           remedy="look for broken images among those drawn")
    return means


def few_words(prompts: int) -> str:
    """What a note says of an interval over so many prompts; "" of six and more."""
    if prompts == 1:
        return "one prompt: no interval over prompts"
    return f"only {prompts} prompts: the interval is rough" if 0 < prompts < 6 else ""


def bootstrap_words(estimate: Estimate, draws: int, seed: int, strata: int = 1) -> str:
    """How an interval was made, for `Score.interval`; "" where there is none."""
    many = f", for all {strata} strata at once" if strata > 1 else ""
    return f"95% {BOOTSTRAP}, {draws} draws, seed {seed}{many}" if estimate.low is not None else ""
