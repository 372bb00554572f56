"""The interval of FID to first order: the derivative that it claims to be, and as wide as the bootstrap's."""

from __future__ import annotations

import pytest
import torch

from expunge.metrics.base import Moments
from expunge.metrics.distance import frechet_distance, gaussian
from expunge.metrics.fidelity import SUBSET, items_against_original, items_against_real
from expunge.metrics.frechet_interval import frechet_parts, linear_interval
from expunge.records import ItemKey


def features(seed: int, n: int, width: int = 6, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(n, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def weighted(x: torch.Tensor, y: torch.Tensor, more: int, eps: float) -> float:
    """FID where one item weighs a little more on both sides: a Gaussian of weighted moments."""
    from expunge.metrics.distance import gaussian_from_moments

    w = torch.full((len(x),), 1.0, dtype=torch.float64)
    w[more] += eps
    w /= w.sum()
    sides = [gaussian_from_moments(w @ z, ((z - w @ z).T * w) @ (z - w @ z) * len(z) / (len(z) - 1)) for z in (x, y)]
    return frechet_distance(*sides)


def test_influence_is_the_derivative_by_an_items_weight() -> None:
    x, y = features(0, 60), features(1, 60, scale=1.4) + 0.5
    parts = frechet_parts(x, y)
    assert parts.value == pytest.approx(frechet_distance(gaussian(x), gaussian(y)), rel=1e-12)
    for item in (0, 17, 59):
        slope = (weighted(x, y, item, 1e-5) - weighted(x, y, item, -1e-5)) / 2e-5 * len(x)
        assert float(parts.influence[item]) == pytest.approx(slope, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(("n", "width"), [(600, 8), (200, 30)])
def test_the_interval_is_as_wide_as_the_bootstraps(n: int, width: int) -> None:
    x, y = features(2, n, width), features(3, n, width, 1.3) + 0.2
    items = [ItemKey(f"p{i // 2}", i % 2) for i in range(n)]
    fid = items_against_original(items, x, y, "f@0", draws=300)[0]
    ends = linear_interval(frechet_parts(x, y), items)
    assert ends is not None
    assert fid.low is not None
    assert fid.high is not None
    assert (ends[1] - ends[0]) / (fid.high - fid.low) == pytest.approx(1, abs=0.3)


def test_more_pictures_than_a_subset_have_an_interval_without_a_bootstrap() -> None:
    n = SUBSET + 1
    x, y = features(4, n), features(5, n) + 0.5
    items = [ItemKey(f"p{i}", 0) for i in range(n)]
    real = Moments("f@0", y.mean(0), y.T.cov(), n, y[:100].float(), "drawings")
    for fid, kid in (items_against_original(items, x, y, "f@0"), items_against_real(items, x, real, "f@0")):
        assert fid.low is not None
        assert fid.high is not None
        assert fid.value is not None
        assert fid.low < fid.value < fid.high
        assert "jackknife" in fid.interval
        assert f"n {n}" in fid.note
        assert kid.low is not None
        assert kid.high is not None
        assert kid.value is not None
        assert kid.low < kid.value < kid.high
        assert "jackknife" in kid.interval
    assert linear_interval(frechet_parts(x, y), [ItemKey("one", seed) for seed in range(n)]) is None


def test_statistics_without_single_pictures_give_fid_and_no_kid() -> None:
    x, y = features(4, 50), features(5, 400)
    real = Moments("f@0", y.mean(0), y.T.cov(), 0, torch.zeros(0, 6), "npz")
    fid, kid = items_against_real([ItemKey("p", i) for i in range(50)], x, real, "f@0")
    assert fid.value is not None
    assert "an unknown number of real ones" in fid.denominator
    assert kid.value is None
    assert "no features of single images" in kid.note
