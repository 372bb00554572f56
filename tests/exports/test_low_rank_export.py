"""A change as two factors: exact where its rank is low, else as close as its rank allows, and never clamped."""

from __future__ import annotations

import pytest
import torch

from expunge.exports.low_rank import factored, noise, pays


def random(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def error(delta: torch.Tensor, product: torch.Tensor) -> float:
    return float((delta.flatten(1) - product).norm() / delta.norm())


@pytest.mark.parametrize("energy", [0.9, 0.99, 0.999])
def test_the_rank_is_the_smallest_that_keeps_the_energy_and_the_error_is_what_is_left(energy: float) -> None:
    delta = random(64, 48) @ torch.diag(0.8 ** torch.arange(48, dtype=torch.float64)) @ random(48, 48, 1)
    found = factored(delta, energy=energy, cap=None, floor=0.0, number=torch.float64)
    s = torch.linalg.svdvals(delta).pow(2)
    shares = s.cumsum(0) / s.sum()
    assert float(shares[found.rank - 1]) >= energy
    assert found.rank == 1 or float(shares[found.rank - 2]) < energy
    assert found.kept == pytest.approx(float(shares[found.rank - 1]))
    assert error(delta, found.product()) == pytest.approx((1 - float(shares[found.rank - 1])) ** 0.5, rel=1e-6)


def test_a_cap_wins_over_the_energy_and_is_told() -> None:
    found = factored(random(40, 40), energy=0.999, cap=3, floor=0.0, number=torch.float64)
    assert found.rank == 3
    assert found.kept is not None
    assert found.kept < 0.5


def test_a_change_of_low_rank_comes_out_whole_though_the_energy_asks_for_less() -> None:
    """Three vectors of very different size, as a closed form leaves them, and the rounding of the weights."""
    weight = random(320, 256, 2).float()
    exact = (random(320, 3, 3) * torch.tensor([1.0, 1e-2, 1e-3], dtype=torch.float64)) @ random(3, 256, 4)
    after = (weight.double() + 0.01 * exact).float()
    delta = after.double() - weight.double()
    found = factored(delta, energy=0.9, cap=None, floor=noise(after, torch.float32), number=torch.float64)
    assert found.rank == 3
    assert error(0.01 * exact, found.product()) < 1e-3


def test_a_dense_change_is_not_taken_for_one_of_low_rank() -> None:
    weight = random(64, 64).float()
    after = weight + 0.01 * random(64, 64, 1).float()
    delta = after.double() - weight.double()
    found = factored(delta, energy=0.9, cap=None, floor=noise(after, torch.float32), number=torch.float64)
    assert 3 < found.rank < 64
    assert factored(delta, energy=1.0, cap=None, floor=noise(after, torch.float32), number=torch.float64).rank == 64


def test_nothing_is_clamped_not_even_one_large_number() -> None:
    """kohya's extractor cuts both factors at their 0.99 quantile."""
    delta = 1e-3 * random(32, 3) @ random(3, 32, 1)
    delta[5, 7] += 10
    found = factored(delta, energy=1.0, cap=None, floor=0.0, number=torch.float64)
    assert error(delta, found.product()) < 1e-12


def test_a_convolution_keeps_its_sides_in_the_factor_that_comes_first() -> None:
    delta = random(16, 8 * 9).reshape(16, 8, 3, 3)
    found = factored(delta, energy=1.0, cap=None, floor=0.0, number=torch.float32)
    assert found.down.shape == (16, 8, 3, 3)
    assert found.up.shape == (16, 16, 1, 1)
    assert error(delta, found.product()) < 1e-6


def test_both_factors_are_of_like_size_so_that_half_precision_holds_them() -> None:
    found = factored(1e-6 * random(32, 32), energy=1.0, cap=None, floor=0.0, number=torch.float16)
    assert error(1e-6 * random(32, 32), found.product()) < 2e-3


def test_factors_pay_below_the_rank_at_which_they_are_as_large_as_the_matrix() -> None:
    assert pays(225, 768, 320)
    assert not pays(226, 768, 320)
    assert pays(1535, 3072, 3072)
    assert not pays(1536, 3072, 3072)


def test_nothing_was_truncated_where_rounding_alone_was_left_out() -> None:
    weight = random(320, 256, 2).float()
    after = (weight.double() + 0.01 * random(320, 3, 3) @ random(3, 256, 4)).float()
    delta, floor = after.double() - weight.double(), noise(after, torch.float32)
    whole = factored(delta, energy=0.9, cap=None, floor=floor, number=torch.float32)
    assert (whole.rank, whole.kept, whole.cut) == (3, 1.0, False)
    capped = factored(delta, energy=0.9, cap=2, floor=floor, number=torch.float32)
    assert capped.kept is not None
    assert capped.kept < 1
    assert capped.cut
    assert not factored(random(8, 8), energy=1.0, cap=8, floor=0.0, number=torch.float32).cut
