"""Numbers are written so that nobody reads more, or less, into them than is there."""

from __future__ import annotations

import math

import pytest

from expunge.records import Score
from expunge.report.words import count_text, duration, interval_text, number, percent, seeds_text, value_text


@pytest.mark.parametrize(("value", "text"), [(0, "0%"), (1, "100%"), (0.0238, "2.4%"), (0.0001, "<0.1%"),
                                             (0.9999, ">99.9%"), (0.5, "50.0%")])
def test_percent_rounds_nothing_into_certainty(value, text):
    assert percent(value) == text


@pytest.mark.parametrize(("name", "value", "text"), [
    ("original/found/all", 0.945, "94.5%"), ("change/found/all", -0.921, "−92.1 points"),
    ("integrity/near", -0.4, "−0.40"), ("perceptual/floor", 0.0004, "0.00040"), ("kid/original", 0.0061, "0.0061"),
    ("change/clip/keep", 0.5, "+0.50"), ("fid/real", 0.0, "0.00"), ("strange", 12345.678, "1.235e+04")])
def test_number_keeps_the_digits_of_its_family(name, value, text):
    assert number(name, value) == text


@pytest.mark.parametrize(("score", "text"), [
    (None, "not measured: the evaluation has no such score"),
    (Score(name="fid/real", title="", value=None, note="not measured: no statistics"), "not measured: no statistics"),
    (Score(name="fid/real", title="", value=math.nan), "not measured: no reason given"),
    (Score(name="fid/real", title="", value=3.0), "3.00")])
def test_missing_values_say_why(score, text):
    assert value_text(score) == text


def test_intervals_need_both_ends():
    assert interval_text(Score(name="found/all", title="", value=0.5, low=0.25, high=0.75)) == "25.0% to 75.0%"
    assert interval_text(Score(name="found/all", title="", value=0.5, low=0.25)) == "none"
    assert interval_text(Score(name="found/all", title="", value=0.5, low=0.25, high=math.inf)) == "none"


def test_counts_seeds_and_durations():
    assert count_text(Score(name="found/all", title="", value=0.5, n=8, numerator=4)) == "4 of 8"
    assert count_text(Score(name="fid/real", title="", value=1.0, n=1)) == "1 image"
    assert count_text(Score(name="ssim/far", title="", value=1.0, n=1, of="pairs of images")) == "1 pair of images"
    assert count_text(Score(name="ssim/far", title="", value=1.0, n=2, of="pairs of images")) == "2 pairs of images"
    assert seeds_text((3, 0, 1, 2, 7, 9, 10)) == "0–3, 7, 9, 10"
    assert [duration(s) for s in (2.34, 42.3, 200, 7300, math.nan)] == ["2.3 s", "42 s", "3 min 20 s", "2 h 1 min",
                                                                        "not recorded"]
