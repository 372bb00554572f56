"""Fréchet and kernel distance against torchmetrics and against formulas written another way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from expunge.errors import ExpungeError
from expunge.metrics.distance import (
    frechet_distance,
    gaussian,
    gaussian_from_moments,
    kernel_distance,
    kernels,
    kid,
)


def sample(n: int, width: int, seed: int, shift: float = 0.0) -> Tensor:
    draw = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=torch.Generator().manual_seed(99))
    return torch.randn(n, width, generator=draw) @ mix + shift


class Flat(nn.Module):
    """An "extractor" that hands images (B, 3, H, W) on as features."""

    num_features = 12

    def forward(self, pictures: Tensor) -> Tensor:
        return pictures.flatten(1)


def by_hand(x: Tensor, y: Tensor) -> float:
    a, b = x.double().numpy(), y.double().numpy()
    s, t = np.cov(a.T), np.cov(b.T)
    root = np.sqrt(np.maximum(np.linalg.eigvals(s @ t).real, 0)).sum()  # trace of the matrix square root
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(s) + np.trace(t) - 2 * root)


@pytest.mark.parametrize(("n", "m"), [(200, 150), (15, 40), (400, 15)])
def test_frechet_agrees_with_the_matrix_square_root(n: int, m: int) -> None:
    x, y = sample(n, 12, 0), sample(m, 12, 1, 0.5)
    assert frechet_distance(gaussian(x), gaussian(y)) == pytest.approx(by_hand(x, y), rel=1e-7)


def test_frechet_agrees_with_torchmetrics() -> None:
    x, y = sample(200, 12, 0), sample(150, 12, 1, 0.5)
    metric = FrechetInceptionDistance(feature=Flat(), normalize=True, input_img_size=(3, 2, 2))
    metric.update(x.view(-1, 3, 2, 2), real=True)
    metric.update(y.view(-1, 3, 2, 2), real=False)
    assert frechet_distance(gaussian(x), gaussian(y)) == pytest.approx(float(metric.compute()), rel=1e-4)


def test_frechet_with_fewer_pictures_than_features_is_right() -> None:
    """Against a one-dimensional set in closed form: the covariances commute."""
    x = torch.zeros(6, 40)
    x[:, 0] = torch.arange(6.0)
    y = torch.zeros(6, 40)
    y[:, 0] = 3 * torch.arange(6.0)
    s = float(torch.arange(6.0).var())
    assert frechet_distance(gaussian(x), gaussian(y)) == pytest.approx(5.0**2 + s + 9 * s - 2 * 3 * s, rel=1e-9)


def test_moments_and_features_give_the_same_gaussian() -> None:
    x, y = sample(100, 8, 0), sample(80, 8, 1)
    stored = gaussian_from_moments(x.double().mean(0), torch.from_numpy(np.cov(x.double().numpy().T)))
    assert frechet_distance(stored, gaussian(y)) == pytest.approx(frechet_distance(gaussian(x), gaussian(y)), rel=1e-9)


def test_equal_sets_are_at_distance_nought() -> None:
    x = sample(30, 50, 0)
    assert frechet_distance(gaussian(x), gaussian(x)) == pytest.approx(0, abs=1e-9)
    assert kid(x, x, same_items=True) == 0.0


def test_kernel_distance_agrees_with_torchmetrics() -> None:
    x, y = sample(60, 12, 0), sample(60, 12, 1, 0.5)
    metric = KernelInceptionDistance(feature=Flat(), subsets=1, subset_size=60, normalize=True)
    metric.update(x.view(-1, 3, 2, 2), real=True)
    metric.update(y.view(-1, 3, 2, 2), real=False)
    assert kid(x, y) == pytest.approx(float(metric.compute()[0]), rel=1e-4)


def test_kernel_distance_is_unbiased() -> None:
    """Over many small pairs of sets from one law it averages to nought, paired or not."""
    for same in (False, True):
        values = [kid(sample(8, 4, 2 * i), sample(8, 4, 2 * i + 1), same_items=same) for i in range(400)]
        error = float(np.std(values) / 20)
        assert abs(float(np.mean(values))) < 4 * error


def test_repeats_in_a_resample_are_not_compared_with_themselves() -> None:
    """Every item twice says what every item once says, up to the pairs counted."""
    grams = kernels(sample(20, 6, 0), sample(20, 6, 1))
    once = kernel_distance(grams)
    twice = kernel_distance(grams, torch.arange(20).repeat(2), torch.arange(20).repeat(2))
    assert twice == pytest.approx(once, rel=1e-9)


def test_subsets_are_seeded() -> None:
    x, y = sample(80, 6, 0), sample(70, 6, 1, 1.0)
    a = kid(x, y, subset=30, subsets=20, seed=5)
    assert a == kid(x, y, subset=30, subsets=20, seed=5) != kid(x, y, subset=30, subsets=20, seed=6)
    assert a == pytest.approx(kid(x, y), rel=0.3)


def test_bad_features_are_refused() -> None:
    with pytest.raises(ExpungeError, match="finite"):
        gaussian(torch.full((4, 3), torch.nan))
    with pytest.raises(ExpungeError, match="N >= 2"):
        gaussian(torch.zeros(1, 3))
    with pytest.raises(ExpungeError, match="one extractor"):
        frechet_distance(gaussian(sample(5, 3, 0)), gaussian(sample(5, 4, 0)))
