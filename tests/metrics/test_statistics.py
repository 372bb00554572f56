"""Intervals against closed forms; nothing measured is never a number."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom
from scipy.stats import t as students

from expunge.errors import ExpungeError
from expunge.metrics.statistics import (
    at_once,
    bootstrap_interval,
    bootstrap_over_groups,
    change_interval,
    effective_size,
    paired_difference,
    percentiles,
    rate_interval,
    resampled,
    resamples,
    student,
    wilson,
    wilson_of,
)


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
    wider = math.sqrt(2) * student(1) / 1.959964
    assert (low, high) == pytest.approx((0.5 - 0.5 * wider, 0.5 + 0.5 * wider))
    assert bootstrap_over_groups({"a": [1.0], "b": [0.0]}, least=0.0, most=1.0) == (0.5, 0.0, 1.0)


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


@pytest.mark.parametrize("count", [3, 4, 6, 10, 20])
def test_means_of_few_prompts_miss_the_truth_no_more_often_than_they_say(count: int) -> None:
    """Plain percentiles miss it in 26% (3), 20% (4), 15% (6), 10% (10) and 6.5% (20) of all samples."""
    rng, samples = np.random.default_rng(count), 400
    missed = 0
    for _ in range(samples):
        _, low, high = bootstrap_over_groups({str(i): [v] for i, v in enumerate(rng.normal(size=count))}, draws=500)
        assert low is not None
        assert high is not None
        missed += not low <= 0 <= high
    assert missed / samples < 0.05 + 3 * math.sqrt(0.05 * 0.95 / samples)


@pytest.mark.parametrize(("prompts", "seeds"), [(25, 6), (34, 2), (12, 4), (2, 40)])
def test_more_finds_never_lower_the_upper_end(prompts: int, seeds: int) -> None:
    """One hit shows no likeness within a prompt, and must not make 1 in 150 surer than 0 in 150."""
    ends = []
    for hits in range(prompts + 1):
        groups = {str(i): [float(i < hits)] + [0.0] * (seeds - 1) for i in range(prompts)}
        ends.append(rate_interval(groups))
    highs = [high for _, high in ends if high is not None]
    assert highs == sorted(highs)
    assert highs[0] == pytest.approx(wilson_of(0.0, prompts)[1])
    turned = [rate_interval({str(i): [1.0 - (i < hits)] + [1.0] * (seeds - 1) for i in range(prompts)})
              for hits in range(prompts + 1)]
    assert [low for low, _ in turned] == pytest.approx([1 - high for high in highs])


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


def test_pictures_of_prompts_that_agree_are_worth_as_many_as_there_are_prompts() -> None:
    """6 of 127 images, all in two of 32 prompts."""
    groups = {str(i): [0.0] * 4 for i in range(30)} | {"a": [1.0] * 3 + [0.0], "b": [1.0] * 3}
    assert 32 <= effective_size(groups) < 60
    low, high = rate_interval(groups)
    naive_low, naive_high = wilson(6, 127)
    assert low is not None
    assert high is not None
    assert naive_low is not None
    assert naive_high is not None
    assert low < naive_low
    assert high > naive_high + 0.02
    assert effective_size({str(i): [0.0] * 4 for i in range(24)}) == 24  # none found: nothing tells how alike they are
    assert effective_size({"only": [0.0, 1.0] * 6}) == 12  # one prompt is all there is: its seeds are the sample
    assert effective_size({str(i): [float(i % 2)] for i in range(9)}) == 9


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.6])
def test_the_interval_over_prompts_covers_the_true_rate(rate: float) -> None:
    """Simulated: prompts differ (a beta distribution), four seeds each; at least 92 in 100 intervals hold the rate."""
    rng, hits, tries = np.random.default_rng(0), 0, 400
    for _ in range(tries):
        own = rng.beta(rate * 2, (1 - rate) * 2, 24)
        low, high = rate_interval({str(i): list(rng.binomial(1, p, 4).astype(float)) for i, p in enumerate(own)})
        hits += low is not None and high is not None and low <= rate <= high
    assert hits / tries >= 0.92


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 7, 24, 301])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_student_s_quantile_is_scipy_s(freedom: int, confidence: float) -> None:
    assert student(freedom, confidence) == pytest.approx(students.ppf((1 + confidence) / 2, freedom), rel=1e-9)


@pytest.mark.parametrize(("prompts", "seeds"), [(2, 12), (3, 8), (4, 4), (6, 4)])
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_the_interval_covers_the_true_rate_with_few_prompts_too(prompts: int, seeds: int, rate: float) -> None:
    """Images of a prompt alike by .45 (intraclass correlation): z in place of t holds it in 79 to 92 of 100 at .5."""
    rng, hits, tries, alike = np.random.default_rng(1), 0, 300, 0.45
    for _ in range(tries):
        own = rng.beta(rate * (1 - alike) / alike, (1 - rate) * (1 - alike) / alike, prompts)
        low, high = rate_interval({str(i): list(rng.binomial(1, p, seeds).astype(float)) for i, p in enumerate(own)})
        hits += low is not None and high is not None and low <= rate <= high
    assert hits / tries >= 0.94


def test_the_effective_size_is_at_least_that_of_prompts_of_equal_weight() -> None:
    assert effective_size({"a": [1.0] * 8, "b": [0.0] * 8}) == 2  # alike to the last image: a coin a prompt
    assert rate_interval({"a": [1.0] * 8, "b": [0.0] * 8}) == wilson(1, 2)
    assert effective_size({"a": [0.0] * 39, "b": [0.0]}) == 2
    uneven = {"a": [0.0] * 39, "b": [1.0]}
    assert effective_size(uneven) == pytest.approx(40**2 / (39**2 + 1))  # hardly two prompts


def test_no_change_in_a_dozen_is_no_proof_of_none() -> None:
    value, low, high = change_interval({str(i): [0.0] for i in range(12)})
    assert value == 0.0
    assert high == pytest.approx(students.ppf(0.975, 11) / 14)  # Agresti and Min: two pairs added
    assert low == pytest.approx(-students.ppf(0.975, 11) / 14)
    assert change_interval({}) == (None, None, None)


def test_change_agrees_with_agresti_and_min() -> None:
    """40 pairs, 8 fall and 1 rises: (b - c) / (n + 2), variance ((b + c + 1) - (b - c)^2 / (n + 2)) / (n + 2)^2."""
    values = [-1.0] * 8 + [1.0] + [0.0] * 31
    value, low, high = change_interval({str(i): [x] for i, x in enumerate(values)})
    centre, half = -7 / 42, students.ppf(0.975, 39) * math.sqrt((10 - 49 / 42) / 42**2)
    assert value == pytest.approx(-7 / 40)
    assert (low, high) == pytest.approx((min(-7 / 40, centre - half), centre + half))


def test_a_change_over_few_prompts_is_covered_as_often_as_it_says() -> None:
    """Each of 8 prompts falls with probability 0.2: the mean over all 2^8 samples is exact. z covers 83%."""
    covered = 0.0
    for falls in range(9):
        _, low, high = change_interval({str(i): [-1.0 if i < falls else 0.0] for i in range(8)})
        assert low is not None
        assert high is not None
        covered += float(binom.pmf(falls, 8, 0.2)) * (low <= -0.2 <= high)
    assert covered >= 0.95


def test_several_intervals_at_once_are_bonferronis() -> None:
    assert at_once(1) == 0.95
    assert at_once(5) == pytest.approx(0.99)


@pytest.mark.parametrize("count", [2, 700, 4000])
def test_resamples_do_not_depend_on_how_many_are_held_at_once(count: int) -> None:
    whole = np.random.default_rng(3).integers(0, count, (300, count))
    blocks = [*resamples(count, 300, 3)]
    assert (np.concatenate(blocks) == whole).all()
    assert max(block.size for block in blocks) <= max(2**18, count)
    values = np.random.default_rng(0).random(count)
    assert (resampled(count, 300, 3, lambda rows: values[rows].mean(1)) == values[whole].mean(1)).all()


def test_an_end_never_lies_on_the_wrong_side_of_the_value() -> None:
    drawn = np.random.default_rng(0).normal(1.02, 0.001, 500)
    low, high = bootstrap_interval(drawn, 1.02, 11, 12, most=1.0) or (0.0, 0.0)
    assert low < 1.02 == high
    low, high = bootstrap_interval(-drawn, -1.02, 11, 12, least=-1.0) or (0.0, 0.0)
    assert low == -1.02 < high
