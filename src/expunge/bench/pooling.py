"""What edits of one method add up to, and how two methods differ on the items that both have.

A score is a weighted sum of shares or means, each over a stratum of prompts:

    value = sum_k w_k * (sum of the items of stratum k) / (number of items of stratum k)

for shares, which count images. Of means, whose unit is the prompt as in an evaluation, an item is the mean over the
images of a prompt by one edit.

Items form a table of edits by prompts (a cell: the images of one prompt by one edit). Images of a prompt resemble
one another, and so do all images of an edit, so the interval draws both anew, rows and columns independently: the
pigeonhole bootstrap. Concepts are strata: edits and prompts are drawn within each. Beside it a rate has Wilson's
interval, whose units are the prompts of each edit: it takes edits as independent, but does not vanish at 0 and 1.
Prompts that are drawn within each of B concepts and strata have P - B degrees of freedom: the ends are moved away
from the value accordingly (`bootstrap_interval`), and with one prompt of each there is no interval.

Source: Owen 2007, The pigeonhole bootstrap, Annals of Applied Statistics 1(2), section 3. Differs: ratio of sums, since
items can be missing; several strata and blocks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from expunge.metrics.statistics import NOTHING, Estimate, bootstrap_interval
from expunge.records.bench import Items

Edits = Mapping[int, Items]
"""A concept's edits by their seed: values by prompt and image seed."""
CLUSTER = "95% bootstrap over edits and prompts, {draws} draws, seed {seed}"


@dataclass(frozen=True)
class PooledBlock:
    """One concept's items of one stratum: float64 (edits, prompts) sums and counts, and the number of images."""

    sums: np.ndarray
    counts: np.ndarray
    images: int

    def outcomes(self) -> list[list[float]]:
        """The 0s and 1s of a rate, each prompt of each edit for itself."""
        return [[1.0] * hits + [0.0] * (count - hits) for hits, count in zip(
            self.sums.round().astype(int).flat, self.counts.astype(int).flat, strict=True) if count]

    @property
    def prompts(self) -> int:
        """Prompts that have an item."""
        return int((self.counts.sum(0) > 0).sum())

    @property
    def edits(self) -> int:
        """Edits that have an item."""
        return int((self.counts.sum(1) > 0).sum())


@dataclass(frozen=True)
class PooledStratum:
    """A set of prompts, block by block (one per concept, the same order in every stratum), with its weight."""

    blocks: tuple[PooledBlock, ...]
    weight: float = 1.0

    @property
    def n(self) -> int:
        """How many images."""
        return sum(block.images for block in self.blocks)

    @property
    def units(self) -> float:
        """How many units the mean is over: images, or prompts of each edit."""
        return float(sum(block.counts.sum() for block in self.blocks))

    @property
    def total(self) -> float:
        """Sum of the items."""
        return float(sum(block.sums.sum() for block in self.blocks))


def block(edits: Edits, by_prompt: bool = False) -> PooledBlock:
    """The table of a concept's edits; prompts in the order in which they first appear.

    Args:
        by_prompt: whether the unit is the prompt, whose images count as their mean.
    """
    seeds, texts = list(edits), list(dict.fromkeys(text for items in edits.values() for text in items))
    sums, counts = np.zeros((len(seeds), len(texts))), np.zeros((len(seeds), len(texts)))
    for row, seed in enumerate(seeds):
        for column, text in enumerate(texts):
            values = list(edits[seed].get(text, {}).values())
            sums[row, column], counts[row, column] = sum(values), len(values)
    images = int(counts.sum())
    if by_prompt:
        sums, counts = np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0), np.minimum(counts, 1.0)
    return PooledBlock(sums, counts, images)


def differences(edits: Edits, other: Edits) -> tuple[Edits, int]:
    """Item by item `edits` minus `other`, seed of the edit by seed, and how many items only one side has."""
    out: dict[int, Items] = {}
    alone = 0
    for seed in dict.fromkeys([*edits, *other]):
        here, there = _flat(edits.get(seed, {})), _flat(other.get(seed, {}))
        alone += len(here.keys() ^ there.keys())
        for text, number in here:
            if (text, number) in there:
                items = out.setdefault(seed, {}).setdefault(text, {})
                items[number] = here[text, number] - there[text, number]
    return out, alone


def estimate(strata: Sequence[PooledStratum], draws: int = 2000, seed: int = 0, least: float = -math.inf,
             most: float = math.inf) -> Estimate:
    """The value and its interval over edits and prompts.

    Args:
        strata: all with the same blocks; an edit is drawn with everything that it has in every stratum.
        draws: bootstrap draws; seed: of the resampling. least, most: as in `bootstrap_interval`.

    Returns:
        No value when a stratum has no item; no interval when no concept has two prompts in a stratum.
    """
    if not strata or any(not stratum.n for stratum in strata):
        return NOTHING
    value = sum(stratum.weight * stratum.total / stratum.units for stratum in strata)
    prompts = [item.prompts for stratum in strata for item in stratum.blocks if item.prompts]
    freedom = sum(prompts) - len(prompts)
    if not freedom:
        return Estimate(value, None, None)
    drawn = np.zeros(draws)
    with np.errstate(divide="ignore", invalid="ignore"):
        for k, stratum in enumerate(strata):
            drawn += stratum.weight * _drawn(stratum, k, draws, seed)
    there = drawn[np.isfinite(drawn)]  # a draw may miss every item of a thin stratum
    interval = bootstrap_interval(there, value, freedom, sum(prompts), least=least, most=most)
    return Estimate(value, *(interval or (None, None)))


def _drawn(stratum: PooledStratum, k: int, draws: int, seed: int) -> np.ndarray:
    """float64 (draws,): the stratum's mean in each draw."""
    sums, counts = np.zeros(draws), np.zeros(draws)
    for b, item in enumerate(stratum.blocks):
        edits, prompts = item.sums.shape
        if not edits or not prompts:
            continue
        rows = _weights(edits, draws, [seed, b])  # an edit's weight is the same in every stratum
        columns = _weights(prompts, draws, [seed, b, 1 + k])
        sums += (rows @ item.sums * columns).sum(1)
        counts += (rows @ item.counts * columns).sum(1)
    return sums / counts


def _weights(count: int, draws: int, seed: Sequence[int]) -> np.ndarray:
    """float64 (draws, count): how often each of `count` is drawn when `count` are drawn with replacement."""
    return np.random.default_rng(seed).multinomial(count, [1 / count] * count, draws).astype(np.float64)


def _flat(items: Items) -> dict[tuple[str, str], float]:
    return {(text, number): value for text, inner in items.items() for number, value in inner.items()}
