"""Two detectors on the same images: counts by hand, and Cohen's kappa by the textbook's example."""

from __future__ import annotations

import pytest

from expunge.detectors.agreement import Agreement, agreement
from expunge.detectors.base import Reading
from expunge.detectors.rule import Rule


def test_two_detectors_disagree_in_two_ways_and_what_one_leaves_open_is_apart() -> None:
    rule = Rule(labels=("feet",))
    first = [Reading({"feet": score}) for score in (0.9, 0.9, 0.1, 0.1, 0.9)] + [Reading(error="x")]
    second = [Reading({"feet": score}) for score in (0.9, 0.1, 0.9, 0.1)] + [Reading(note="no face"), Reading()]
    found = agreement(first, rule, second, rule)
    assert (found.both, found.first_only, found.second_only, found.neither, found.undecided) == (1, 1, 1, 1, 2)
    assert found.decided == 4


def test_kappa_is_agreement_beyond_chance() -> None:
    def kappa(both: int, neither: int, first: int, second: int) -> float | None:
        return Agreement(both=both, neither=neither, first_only=first, second_only=second).kappa

    assert kappa(20, 15, 5, 10) == pytest.approx(0.4)  # (0.7 - 0.5) / (1 - 0.5)
    assert kappa(3, 4, 0, 0) == 1.0
    assert kappa(0, 0, 5, 5) == -1.0
    assert kappa(0, 9, 0, 0) is None  # of two that always say no, chance explains all
    assert kappa(0, 0, 0, 0) is None
