"""KID's interval to first order: the derivative by an item's weight, as wide as a bootstrap's, in blocks or at once."""

from __future__ import annotations

import pytest
import torch

from expunge.metrics import kernel_interval
from expunge.metrics.base import Moments
from expunge.metrics.distance import kernel_distance, kernels
from expunge.metrics.fidelity import items_against_original, items_against_real
from expunge.metrics.frechet_interval import Parts, linear_interval
from expunge.metrics.kernel_interval import kernel_influence
from expunge.records import ItemKey


def features(seed: int, n: int, width: int = 6, scale: float = 1.0) -> torch.Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed)).double() * scale


@pytest.mark.parametrize("same_items", [True, False])
def test_influence_is_what_leaving_an_item_out_changes(same_items: bool) -> None:
    x, y = features(0, 200), features(1, 200 if same_items else 90, scale=1.4) + 0.5
    whole, influence = kernel_distance(kernels(x, y, same_items=same_items)), kernel_influence(x, y,
                                                                                               same_items=same_items)
    for item in (0, 17, 199):
        rest = torch.arange(200) != item
        without = kernel_distance(kernels(x[rest], y[rest] if same_items else y, same_items=same_items))
        assert float(influence[item]) == pytest.approx((whole - without) * 199, rel=0.03, abs=0.02)
    assert float(influence.sum()) == pytest.approx(0, abs=1e-8)


def test_the_interval_is_as_wide_as_the_bootstraps() -> None:
    x, y = features(2, 400), features(3, 400, scale=1.3) + 0.2
    items = [ItemKey(f"p{i // 2}", i % 2) for i in range(400)]
    real = Moments("f@0", y.mean(0), y.T.cov(), 400, y.float(), "drawings")
    for kid, same in ((items_against_original(items, x, y, "f@0", draws=300)[1], True),
                      (items_against_real(items, x, real, "f@0", draws=300)[1], False)):
        ends = linear_interval(Parts(kid.value or 0.0, kernel_influence(x, y, same_items=same)), items, least=None)
        assert ends is not None
        assert kid.low is not None
        assert kid.high is not None
        assert (ends[1] - ends[0]) / (kid.high - kid.low) == pytest.approx(1, abs=0.3)


def test_it_is_never_too_narrow_where_both_sides_are_of_one_law() -> None:
    values, widths = [], []
    for seed in range(40):
        x, y = features(2 * seed, 150), features(2 * seed + 1, 150)
        values.append(kernel_distance(kernels(x, y, same_items=True)))
        ends = linear_interval(Parts(values[-1], kernel_influence(x, y, same_items=True)),
                               [ItemKey(f"p{i}", 0) for i in range(150)], least=None)
        assert ends is not None
        widths.append(ends[1] - ends[0])
    ratio = float(torch.tensor(widths).mean() / (2 * 1.96 * torch.tensor(values).std()))
    assert 1.0 < ratio < 2.0


def test_blocks_and_a_sample_of_the_others_change_little(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = features(4, 130), features(5, 130) + 0.5
    at_once = kernel_influence(x, y, same_items=True)
    monkeypatch.setattr(kernel_interval, "_ROWS", 7)
    torch.testing.assert_close(kernel_influence(x, y, same_items=True), at_once, rtol=1e-9, atol=1e-9)
    monkeypatch.setattr(kernel_interval, "COLUMNS", 100)
    sampled = kernel_influence(x, y, same_items=True)
    assert float(sampled.std() / at_once.std()) == pytest.approx(1, abs=0.15)
