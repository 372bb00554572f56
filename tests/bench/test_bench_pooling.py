"""Pooling and pairing against plain numpy and hand-counted tables."""

from __future__ import annotations

import math

import numpy as np
import pytest

from expunge.bench.pooling import Edits, PooledStratum, block, differences, estimate
from expunge.metrics.statistics import student


def table(values: np.ndarray) -> Edits:
    """(edits, prompts, images) as items."""
    return {edit: {f"p{i}": {str(k): float(value) for k, value in enumerate(row)} for i, row in enumerate(rows)}
            for edit, rows in enumerate(values)}


def pigeonhole(values: np.ndarray, draws: int) -> np.ndarray:
    """The same bootstrap by drawing rows and columns one by one."""
    rng, means = np.random.default_rng(5), values.mean(2)
    edits, prompts = means.shape
    return np.array([means[rng.integers(0, edits, edits)][:, rng.integers(0, prompts, prompts)].mean()
                     for _ in range(draws)])


def test_value_is_the_mean_over_all_items_and_the_interval_that_of_rows_and_columns_drawn_anew() -> None:
    values = np.random.default_rng(0).random((3, 12, 2)) + np.linspace(0, 1, 12)[None, :, None]
    found = estimate([PooledStratum((block(table(values)),))], draws=4000)
    assert found.value == pytest.approx(values.mean())
    low, high = np.quantile(pigeonhole(values, 4000), [0.025, 0.975])
    wider = math.sqrt(12 / 11) * student(11) / 1.959964
    ends = found.value - wider * (found.value - low), found.value + wider * (high - found.value)
    assert (found.low, found.high) == pytest.approx(ends, abs=0.02)


@pytest.mark.parametrize(("concepts", "prompts"), [(6, 1), (10, 2), (3, 2), (3, 4), (1, 8), (10, 8)])
def test_equal_methods_are_seldom_called_different(concepts: int, prompts: int) -> None:
    """Prompts are drawn within each concept: 10 concepts of 2 prompts have 10 degrees of freedom, and not 20."""
    rng, samples, apart = np.random.default_rng(concepts * prompts), 300, 0
    for _ in range(samples):
        blocks = tuple(block(table(rng.normal(size=(1, prompts, 1)))) for _ in range(concepts))
        found = estimate([PooledStratum(blocks)], draws=400)
        assert (found.low is None) == (prompts == 1)
        apart += found.low is not None and found.high is not None and not found.low <= 0 <= found.high
    assert apart / samples < 0.05 + 3 * math.sqrt(0.05 * 0.95 / samples)


def test_of_means_the_prompt_is_the_unit_whatever_its_images() -> None:
    edits = {0: {"a": dict.fromkeys("01234567", 1.0), "b": {"0": 0.0, "1": 0.0}}}
    of_images, of_prompts = (block(edits, by_prompt) for by_prompt in (False, True))
    assert estimate([PooledStratum((of_images,))]).value == pytest.approx(0.8)
    assert estimate([PooledStratum((of_prompts,))]).value == pytest.approx(0.5)
    assert PooledStratum((of_images,)).n == PooledStratum((of_prompts,)).n == 10


def test_edits_that_differ_widen_the_interval() -> None:
    rng = np.random.default_rng(1)
    alike = rng.random((3, 20, 1))
    apart = alike + np.array([-1.0, 0.0, 1.0])[:, None, None]
    widths = [found.high - found.low for values in (alike, apart)
              if (found := estimate([PooledStratum((block(table(values)),))])).high is not None
              and found.low is not None]
    assert widths[1] > 3 * widths[0]


def test_missing_items_count_nothing() -> None:
    edits = {0: {"a": {"0": 1.0, "1": 0.0}, "b": {"0": 1.0}}, 1: {"a": {"1": 1.0}}}
    item = block(edits)
    assert item.sums.tolist() == [[1.0, 1.0], [1.0, 0.0]]
    assert item.counts.tolist() == [[2.0, 1.0], [1.0, 0.0]]
    assert (item.prompts, item.edits) == (2, 2)
    assert estimate([PooledStratum((item,))]).value == pytest.approx(3 / 4)


def test_a_gap_is_the_difference_of_its_strata_and_concepts_are_counted_together() -> None:
    high, low = table(np.ones((2, 3, 2))), table(np.zeros((2, 5, 2)))
    half = {0: {"x": {"0": 1.0, "1": 0.0}}, 1: {"x": {"0": 0.0, "1": 1.0}}}
    gap = estimate([PooledStratum((block(high), block(half)), 1.0), PooledStratum((block(low), block(low)), -1.0)],
                   draws=100)
    assert gap.value == pytest.approx((12 + 2) / (12 + 4) - 0)
    assert gap.low is not None


def test_differences_are_taken_item_by_item() -> None:
    here = {0: {"a": {"0": 1.0, "1": 1.0}, "b": {"0": 0.0}}, 1: {"a": {"0": 1.0}}}
    there = {0: {"a": {"0": 0.0, "2": 1.0}, "b": {"0": 1.0}}, 1: {"c": {"0": 1.0}}}
    pairs, alone = differences(here, there)
    assert pairs == {0: {"a": {"0": 1.0}, "b": {"0": -1.0}}}
    assert alone == 4  # a/1 and a/2 of the first edit; a/0 and c/0 of the second


def test_pairing_removes_what_both_have_in_common() -> None:
    rng = np.random.default_rng(3)
    base = 10 * rng.random((3, 15, 1))
    better = base + 0.3 + 0.05 * rng.standard_normal(base.shape)
    pairs, _ = differences(table(better), table(base))
    found = estimate([PooledStratum((block(pairs),))])
    assert found.low is not None
    assert found.high is not None
    assert 0.2 < found.low < 0.3 < found.high < 0.4
    alone = estimate([PooledStratum((block(table(better)),))])
    assert alone.high - alone.low > 1  # type: ignore[operator]


def test_nothing_is_said_where_nothing_was_measured() -> None:
    assert estimate([]).value is None
    assert estimate([PooledStratum((block({0: {}}),))]).value is None
    one = estimate([PooledStratum((block({0: {"a": {"0": 1.0}}, 1: {"a": {"0": 0.0}}}),))])
    assert (one.value, one.low) == (0.5, None)
