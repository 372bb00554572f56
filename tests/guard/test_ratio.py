"""Ratios: exact on average where the mask is relaxed, to a tensor where it is hard, refused where they cannot be."""

from __future__ import annotations

import pytest
import torch

from expunge.errors import UserError
from expunge.guard.ratio import Groups, check_ratio, hardened, relaxed
from expunge.records.freezing import Granularity, Measure

SIZES = {f"unet/{block}.resnets.{k}.{part}": size for block in ("down_blocks.0", "down_blocks.1", "mid_block")
         for k in (0, 1) for part, size in (("conv.weight", 288), ("conv.bias", 8), ("norm.weight", 8))}


def draws(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("ratio", [0.0, 0.03, 0.2, 0.5, 0.999, 1.0])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_relaxed_mask_has_the_ratio_as_its_weighted_mean(ratio: float, scale: float) -> None:
    x, weights = scale * draws(200), draws(200, 1).exp()
    m = relaxed(x, ratio, weights, temperature=0.2)
    assert float((m * weights).sum() / weights.sum()) == pytest.approx(ratio, abs=1e-6)
    assert bool((m[x.argsort()].diff() >= 0).all()), "the shift changed the order"


def test_equal_entries_are_equally_frozen() -> None:
    m = relaxed(torch.zeros(9).double(), 0.3, torch.ones(9).double(), 0.2)
    assert torch.allclose(m, torch.tensor(0.3).double())


@pytest.mark.parametrize("ratio", [0.0, 0.2, 0.5, 0.7, 1.0])
def test_by_count_the_best_are_frozen_and_as_many_as_asked(ratio: float) -> None:
    scores = draws(50)
    frozen = hardened(scores, ratio, torch.ones(50).double())
    assert int(frozen.sum()) == round(50 * ratio)
    assert not frozen.any() or frozen.all() or float(scores[frozen].min()) > float(scores[~frozen].max())


@pytest.mark.parametrize("ratio", [0.0, 0.2, 0.5, 0.7, 1.0])
def test_by_numel_the_share_is_met_to_a_thousandth(ratio: float) -> None:
    weights = torch.tensor([1.0, 4.0, 16.0, 64.0] * 100).double()
    frozen = hardened(draws(400), ratio, weights)
    assert float(weights[frozen].sum() / weights.sum()) == pytest.approx(ratio, abs=1.1e-3)


def test_by_numel_what_lacks_is_less_than_the_smallest_that_stayed_free() -> None:
    """Where no small tensors are left to fill the gap, as docs/guard.md says."""
    weights = torch.tensor([400.0, 300.0, 300.0]).double()
    frozen = hardened(torch.tensor([3.0, 2.0, 1.0]).double(), 0.6, weights)
    assert frozen.tolist() == [True, False, False]
    lacks = 600.0 - float(weights[frozen].sum())
    assert 0 < lacks < float(weights[~frozen].min())


def test_a_small_gap_is_not_filled_with_the_worst() -> None:
    weights = torch.tensor([5000.0, 5000.0, 1.0]).double()
    assert hardened(torch.tensor([2.0, 1.0, -9.0]).double(), 0.5, weights).tolist() == [True, False, False]


def test_the_order_of_the_tensors_does_not_matter() -> None:
    scores, weights = draws(60), torch.randint(1, 900, (60,), generator=torch.Generator().manual_seed(3)).double()
    order = torch.randperm(60, generator=torch.Generator().manual_seed(5))
    for ratio in (0.2, 0.7):
        frozen = hardened(scores, ratio, weights)
        assert torch.equal(hardened(scores[order], ratio, weights[order]), frozen[order])
        assert torch.allclose(relaxed(scores[order], ratio, weights[order], 0.2),
                              relaxed(scores, ratio, weights, 0.2)[order])


@pytest.mark.parametrize(("granularity", "count", "first"), [
    ("tensor", 18, "unet/down_blocks.0.resnets.0.conv.weight"), ("module", 12, "unet/down_blocks.0.resnets.0.conv"),
    ("block", 3, "unet/down_blocks.0")])
def test_groups_are_tensors_modules_or_blocks(granularity: Granularity, count: int, first: str) -> None:
    groups = Groups.by(SIZES, granularity)
    assert len(groups.labels) == count
    assert groups.labels[0] == first
    assert float(groups.weights("numel").sum()) == sum(SIZES.values())
    assert float(groups.weights("count").sum()) == len(SIZES)
    held = groups.spread(torch.arange(count) == 0)
    assert {name for name, one in zip(groups.names, held.tolist(), strict=True) if one} == \
        {name for name in SIZES if name.startswith(first)}


@pytest.mark.parametrize(("ratio", "granularity", "by", "says"), [
    (1.5, "tensor", "count", "a ratio of 1.5"), (-0.1, "tensor", "numel", "a ratio of -0.1"),
    (0.5, "block", "count", "freeze 0.333"), (0.5, "block", "numel", "finer granularity"),
])
def test_a_ratio_that_cannot_be_met_is_refused(ratio: float, granularity: Granularity, by: Measure, says: str) -> None:
    with pytest.raises(UserError, match=says):
        check_ratio(ratio, Groups.by(SIZES, granularity), by)


@pytest.mark.parametrize(("ratio", "granularity", "by"), [
    (0.0, "block", "numel"), (1.0, "block", "count"), (1 / 3, "block", "count"), (2 / 3, "block", "numel"),
    (0.5, "module", "count"), (0.5, "tensor", "numel"), (0.41, "tensor", "count")])
def test_a_ratio_that_can_be_met_to_a_tensor_is_accepted(ratio: float, granularity: Granularity, by: Measure) -> None:
    check_ratio(ratio, Groups.by(SIZES, granularity), by)
