"""Intervals against closed forms; nothing measured is never a number."""

from __future__ import annotations

import math

import numpy as np
import pytest

from expunge.errors import ExpungeError
from expunge.metrics.statistics import bootstrap_over_groups, paired_difference, percentiles, wilson


@pytest.mark.parametrize(("k", "n"), [(0, 10), (9, 10), (43, 72), (5, 5), (1, 1000)])
def test_wilson_ends_solve_the_score_equation(k: int, n: int) -> None:
    """The ends are the rates p for which |k/n - p| is z standard errors of p itself."""
    low, high = wilson(k, n)
    assert low is not None
    assert high is not None
    for end in (low, high):
        assert abs(k / n - end) == pytest.approx(1.959963984540054 * math.sqrt(end * (1 - end) / n), abs=1e-12)
    assert low < high


def test_wilson_of_nine_in_ten() -> None:
    """Printed in many textbooks: 59.6% to 98.2%."""
    assert wilson(9, 10) == pytest.approx((0.5958, 0.9821), abs=1e-4)


def test_wilson_of_nothing_is_nothing() -> None:
    assert wilson(0, 0) == (None, None)
    with pytest.raises(ExpungeError, match="3 successes in 2"):
        wilson(3, 2)


def test_bootstrap_weighs_prompts_equally_whatever_their_seeds() -> None:
    value, low, high = bootstrap_over_groups({"a": [1.0, 1.0, 1.0, 1.0], "b": [0.0]})
    assert value == 0.5
    assert (low, high) == (0.0, 1.0)


def test_bootstrap_of_nothing_and_of_one() -> None:
    assert bootstrap_over_groups({}) == (None, None, None)
    assert bootstrap_over_groups({"a": []}) == (None, None, None)
    assert bootstrap_over_groups({"a": [1.0, 3.0]}) == (2.0, None, None)
    with pytest.raises(ExpungeError, match="finite"):
        bootstrap_over_groups({"a": [math.nan]})


def test_bootstrap_interval_comes_close_to_the_normal_one_and_is_repeatable() -> None:
    values = np.random.default_rng(1).normal(size=200)
    groups = {str(i): [v] for i, v in enumerate(values)}
    value, low, high = bootstrap_over_groups(groups, draws=4000, seed=3)
    half = 1.96 * values.std() / math.sqrt(200)
    assert (value, low, high) == pytest.approx((values.mean(), values.mean() - half, values.mean() + half), abs=0.02)
    assert bootstrap_over_groups(groups, draws=4000, seed=3) == (value, low, high)
    assert bootstrap_over_groups(groups, draws=4000, seed=4) != (value, low, high)


def test_seeds_stay_with_their_prompt() -> None:
    """Twenty equal seeds of a prompt are no more evidence than one."""
    few = {str(i): [float(i % 2)] for i in range(10)}
    many = {key: values * 20 for key, values in few.items()}
    assert bootstrap_over_groups(few) == bootstrap_over_groups(many)


def test_paired_difference_is_sharper_than_unpaired_and_refuses_gaps() -> None:
    before = {str(i): [float(i)] for i in range(30)}
    after = {key: [values[0] + 1] for key, values in before.items()}
    assert paired_difference(after, before) == (1.0, 1.0, 1.0)
    with pytest.raises(ExpungeError, match="unpaired"):
        paired_difference({**after, "x": [1.0]}, before)


def test_percentiles_of_broken_draws_are_nothing() -> None:
    assert percentiles(np.array([])) is None
    assert percentiles(np.array([1.0, np.inf])) is None
