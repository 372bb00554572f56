"""How scores lie and what other thresholds would say: a rate at one threshold is a choice, and this shows how much of
it is."""

from __future__ import annotations

import statistics
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence

from pydantic import Field

from expunge.detectors.base import Reading
from expunge.detectors.rule import Rule
from expunge.records.base import Record

STEPS = (-0.2, -0.1, -0.05, 0.0, 0.05, 0.1, 0.2)
"""Neighbours of a threshold, as differences."""
PERCENTS = (5, 25, 50, 75, 95)
BINS = 20


class CutRate(Record):
    """What a rule would say with another threshold.

    Attributes:
        cut: the threshold; yes: images that show it; n: images that were decided.
        measured: false below the detector's floor, where it reports nothing: then `yes` is only a lower bound.
    """

    cut: float
    yes: int
    n: int
    measured: bool = True


class Spread(Record):
    """How the values of a rule lie over images.

    Attributes:
        n: images with a value; errors, abstained: images without.
        mean: of the values; None without any.
        percentiles: value by percent (5, 25, 50, 75, 95); bins: counts in 20 equal parts of [0, 1], values outside in
            the outermost ones; () of a rule whose values are numbers of boxes.
        abstentions: how many, by what the detector says.
    """

    n: int
    errors: int
    abstained: int
    mean: float | None = None
    percentiles: dict[int, float] = Field({})
    bins: tuple[int, ...] = ()
    abstentions: dict[str, int] = Field({})


def spread(readings: Iterable[Reading], rule: Rule) -> Spread:
    """The distribution of the rule's values over readings, which are gone over once."""
    values, notes, errors = array("d"), Counter[str](), 0
    for reading in readings:
        errors += bool(reading.error)
        if reading.note and not reading.error:
            notes[reading.note] += 1
        if (value := rule.value(reading)) is not None:
            values.append(value)
    bins = [0] * BINS
    for value in values:
        bins[min(BINS - 1, max(0, int(value * BINS)))] += 1
    ordered = sorted(values)
    return Spread(n=len(values), errors=errors, abstained=notes.total(),
                  mean=statistics.fmean(values) if values else None,
                  percentiles={percent: percentile(ordered, percent) for percent in PERCENTS} if values else {},
                  bins=() if rule.rule == "boxes" else tuple(bins),
                  abstentions=dict(notes))


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which `percent` of the values lie, linear between neighbours (numpy's default)."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def neighbouring_rates(readings: Iterable[Reading], rule: Rule, floor: float = 0.0, cuts: Sequence[float] = ()
                       ) -> list[CutRate]:
    """What the rule says at its own threshold and at neighbouring ones, the lowest first; one pass over the readings.

    Args:
        floor: the detector's. cuts: which thresholds; none means the rule's own plus `STEPS`, inside [0, 1].
    """
    around = cuts or sorted({round(rule.threshold + step, 4) for step in STEPS
                             if step == 0 or 0 <= rule.threshold + step <= 1})
    rules, yes, n = [rule.at(cut) for cut in around], [0] * len(around), [0] * len(around)
    for reading in readings:
        for place, one in enumerate(rules):
            shown = one.shows(reading)
            n[place] += shown is not None
            yes[place] += bool(shown)
    return [CutRate(cut=cut, yes=yes[place], n=n[place], measured=cut >= floor) for place, cut in enumerate(around)]
