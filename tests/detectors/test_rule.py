"""Rules: what of a reading counts, and what neighbouring thresholds would say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from expunge.detectors.base import Box, Reading
from expunge.detectors.rule import Rule
from expunge.detectors.spread import neighbouring_rates, spread
from expunge.errors import ConfigError, UserError

SEEN = Reading({"feet": 0.45, "belly": 0.7, "face": 0.9},
               (Box("face", 0.9, (0, 0, 1, 1)), Box("belly", 0.7, (0, 0, 1, 1)), Box("feet", 0.45, (0, 0, 1, 1)),
                Box("feet", 0.3, (0, 0, 1, 1))))


class Three:
    """A detector by its facts alone."""

    name, labels, floor, finds_boxes = "three@0", ("feet", "belly", "face"), 0.25, False


@pytest.mark.parametrize(("rule", "value", "shows"), [
    (Rule(labels=("feet",), cut=0.45), 0.45, True),
    (Rule(labels=("feet",), cut=0.45, strictly=True), 0.45, False),
    (Rule(labels=("feet", "belly")), 0.7, True),
    (Rule(labels=("feet",)), 0.45, False),
    (Rule(labels=("nose",), cut=0.0), 0.0, False),
    (Rule(labels=("belly",), rule="top"), 0.7, False),
    (Rule(labels=("belly",), rule="top", k=2), 0.7, True),
    (Rule(labels=("belly",), rule="top", k=2, cut=0.8), 0.7, False),
    (Rule(labels=("feet", "belly"), rule="mean"), 1.15, None),
    (Rule(labels=("feet",), rule="mean", cut=0.4), 0.45, True),
    (Rule(labels=("feet", "belly"), rule="boxes"), 3.0, True),
    (Rule(labels=("feet", "belly"), rule="boxes", cut=0.4), 2.0, True),
    (Rule(labels=("feet",), rule="boxes", least=3), 2.0, False)])
def test_value_and_verdict(rule: Rule, value: float, shows: bool | None) -> None:
    assert rule.value(SEEN) == pytest.approx(value)
    assert rule.shows(SEEN) is shows


def test_a_rule_is_told_in_words() -> None:
    assert Rule(labels=("feet", "belly"), cut=0.45, strictly=True).words == "one of feet, belly above 0.45"
    assert Rule(rule="top", k=3).words == "one of the label of the concept's name among the 3 highest, from 0"
    assert Rule(labels=("feet",), rule="boxes", least=2).words == "2 or more boxes of feet from 0"


@pytest.mark.parametrize("reading", [Reading(error="it broke"), Reading({"feet": 0.9}, note="no face")])
@pytest.mark.parametrize("kind", ["any", "top", "mean", "boxes"])
def test_a_failure_and_an_abstention_are_neither_yes_nor_no(reading: Reading, kind: Any) -> None:
    rule = Rule(labels=("feet",), rule=kind)
    assert rule.value(reading) is None
    assert rule.shows(reading) is None


def test_of_equal_scores_the_first_label_is_on_top_as_in_an_argmax() -> None:
    level = Reading({"a": 0.5, "b": 0.5})
    assert Rule(labels=("a",), rule="top").shows(level) is True
    assert Rule(labels=("b",), rule="top").shows(level) is False


def test_a_label_that_the_detector_lacks_is_refused_before_it_passes_for_absent() -> None:
    with pytest.raises(UserError, match="did you mean feet"):
        Rule(labels=("feets",)).check(Three())  # type: ignore[arg-type]
    with pytest.raises(UserError, match="none are named"):
        Rule().check(Three())  # type: ignore[arg-type]
    with pytest.raises(UserError, match="counts boxes"):
        Rule(labels=("feet",), rule="boxes").check(Three())  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="unknown setting"):
        Rule.build({"labels": ["feet"], "threshold": 0.5})


def test_the_rate_at_neighbouring_thresholds_and_below_the_detectors_floor() -> None:
    readings = [Reading({"feet": score}) for score in (0.3, 0.5, 0.6, 0.9)] + [Reading(error="x"), Reading(note="y")]
    rates = neighbouring_rates(readings, Rule(labels=("feet",), cut=0.5), floor=0.45)
    assert [(rate.cut, rate.yes, rate.n, rate.measured) for rate in rates] == [
        (0.3, 4, 4, False), (0.4, 3, 4, False), (0.45, 3, 4, True), (0.5, 3, 4, True), (0.55, 2, 4, True),
        (0.6, 2, 4, True), (0.7, 1, 4, True)]
    assert [rate.cut for rate in neighbouring_rates(readings, Rule(labels=("feet",), cut=0.9))] == [
        0.7, 0.8, 0.85, 0.9, 0.95, 1.0]


def test_the_distribution_counts_failures_and_abstentions_apart() -> None:
    scores = [0.0, 0.02, 0.5, 0.999, 1.0]
    readings = [Reading({"feet": score}) for score in scores]
    found = spread([*readings, Reading(error="x"), Reading(note="no face"), Reading(note="no face")],
                   Rule(labels=("feet",)))
    assert (found.n, found.errors, found.abstained, found.abstentions) == (5, 1, 2, {"no face": 2})
    assert found.mean == pytest.approx(np.mean(scores))
    assert found.percentiles == {p: pytest.approx(np.percentile(scores, p)) for p in (5, 25, 50, 75, 95)}
    assert (found.bins[0], found.bins[10], found.bins[19], sum(found.bins)) == (2, 1, 2, 5)
    assert spread([], Rule(labels=("feet",))).mean is None
