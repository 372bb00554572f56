"""Cohen's kappa: how far two raters agree beyond what their habits alone would give, with an interval over prompts.

    kappa = (p_o - p_e) / (1 - p_e),   p_o = share of images on which they agree,
                                       p_e = sum over answers of (share of one's) (share of the other's)

Source: Cohen 1960, A coefficient of agreement for nominal scales; Efron and Tibshirani 1993, chapter 13 (percentile
interval). Differs: the interval is the wider one, end by end, of two. The first is the bootstrap over prompts, whose
images belong together; draws in which both give one answer throughout say nothing of kappa and are left out. The second
is Wilson's interval of p_o over prompts, carried through the formula at the p_e that was seen. For where two agree on
every image the bootstrap knows no other value than 1, and twenty images do not prove that.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from expunge.metrics.statistics import NOTHING, Estimate, percentiles, rate_interval, resampled

Pairs = Mapping[str, Sequence[tuple[Hashable, Hashable]]]
"""The answers of two raters to each image, by prompt."""
ENOUGH = 0.9
"""Share of bootstrap draws that must have a kappa for there to be an interval."""


def cohen_kappa(pairs: Sequence[tuple[Hashable, Hashable]]) -> float | None:
    """Kappa in [-1, 1] of pairs of answers; None of none, and where both give one and the same answer throughout."""
    if not pairs:
        return None
    value = _kappas(_counts([pairs]))[0]
    return None if np.isnan(value) else float(value)


def kappa_interval(pairs_by_prompt: Pairs, draws: int = 2000, seed: int = 0) -> Estimate:
    """Kappa with its 95% interval; no interval of fewer than two prompts.

    Args:
        draws, seed: of the bootstrap.
    """
    groups = [list(pairs) for pairs in pairs_by_prompt.values() if len(pairs)]
    every = [pair for pairs in groups for pair in pairs]
    value = cohen_kappa(every)
    if value is None:
        return NOTHING
    if len(groups) < 2:
        return Estimate(value, None, None)
    counts = _counts(groups)  # (prompts, answers, answers)
    drawn = resampled(len(groups), draws, seed, lambda rows: _kappas(counts[rows].sum(1)))
    drawn = drawn[~np.isnan(drawn)]
    booted = percentiles(drawn) if len(drawn) >= ENOUGH * draws else None
    low, high = rate_interval({str(row): [float(one == other) for one, other in pairs]
                               for row, pairs in enumerate(groups)})
    chance = _chance(counts.sum(0)[None])[0]
    if booted is None or low is None or high is None:
        return Estimate(value, None, None)
    ends = [(rate - chance) / (1 - chance) for rate in (low, high)]
    return Estimate(value, max(-1.0, min(booted[0], ends[0])), min(1.0, max(booted[1], ends[1])))


def interval_words(draws: int = 2000, seed: int = 0) -> str:
    """How `kappa_interval` was made."""
    return f"95%, the wider of bootstrap over prompts ({draws} draws, seed {seed}) and Wilson"


def _counts(groups: Sequence[Sequence[tuple[Hashable, Hashable]]]) -> np.ndarray:
    """float64 (groups, K, K): how often the first says i and the second j; K answers in all."""
    answers = {answer: place for place, answer in enumerate(dict.fromkeys(
        answer for pairs in groups for pair in pairs for answer in pair))}
    counts = np.zeros((len(groups), len(answers), len(answers)))
    for row, pairs in enumerate(groups):
        for one, other in pairs:
            counts[row, answers[one], answers[other]] += 1
    return counts


def _chance(tables: np.ndarray) -> np.ndarray:
    """float64 (B,): the agreement that the raters' habits alone would give, of tables (B, K, K)."""
    shares = tables / tables.sum((1, 2), keepdims=True)
    chance: np.ndarray = (shares.sum(1) * shares.sum(2)).sum(1)
    return chance


def _kappas(tables: np.ndarray) -> np.ndarray:
    """float64 (B,): kappa of each table (B, K, K); NaN where chance alone would give full agreement."""
    chance = _chance(tables)
    agreed = np.trace(tables, axis1=1, axis2=2) / tables.sum((1, 2))
    with np.errstate(divide="ignore", invalid="ignore"):
        kappas: np.ndarray = np.where(chance < 1 - 1e-12, (agreed - chance) / (1 - chance), np.nan)
    return kappas
