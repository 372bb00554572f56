"""What two detectors say of the same images: each kind of disagreement is a number of its own.

    kappa = (p - e) / (1 - e)

with p the share of images on which they agree, and e the share on which two that say yes as often, and know nothing of
the images, would agree. Where each says the same of all images, e is 1 and kappa is not defined.

Source: Cohen 1960. Differs: none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from expunge.detectors.base import Reading
from expunge.detectors.rule import Rule
from expunge.records.base import Record


class Agreement(Record):
    """Images by what both say.

    Attributes:
        both, neither, first_only, second_only: images by which of them say yes.
        undecided: images that one of them failed on or abstained from.
    """

    both: int
    neither: int
    first_only: int
    second_only: int
    undecided: int = 0

    @property
    def decided(self) -> int:
        """Images of which both say something."""
        return self.both + self.neither + self.first_only + self.second_only

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """both, neither, first_only, second_only: a row of what `kappas` takes."""
        return self.both, self.neither, self.first_only, self.second_only

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa; None where it is not defined."""
        value = float(kappas(np.array([self.counts], dtype=np.float64))[0])
        return value if np.isfinite(value) else None


def kappas(counts: np.ndarray) -> np.ndarray:
    """float64 (some,): kappa of each row of float64 (some, 4), see `Agreement.counts`; NaN where it is not defined."""
    both, neither, first, second = counts.T
    n = both + neither + first + second
    with np.errstate(divide="ignore", invalid="ignore"):
        chance = ((both + first) * (both + second) + (neither + second) * (neither + first)) / n**2
        return np.asarray(((both + neither) / n - chance) / (1 - chance))


def agreement(first: Iterable[Reading], first_rule: Rule, second: Iterable[Reading], second_rule: Rule) -> Agreement:
    """Compare two detectors on the same images, in the same order."""
    return tally((first_rule.shows(one), second_rule.shows(other)) for one, other in zip(first, second, strict=True))


def tally(pairs: Iterable[tuple[bool | None, bool | None]]) -> Agreement:
    """Count pairs of what two detectors say; None where one says nothing."""
    said = Counter(pairs)
    undecided = sum(count for pair, count in said.items() if None in pair)
    return Agreement(both=said[True, True], neither=said[False, False], first_only=said[True, False],
                     second_only=said[False, True], undecided=undecided)
