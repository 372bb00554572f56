"""Fréchet and kernel distance between sets of features: pure float64 functions, no global randomness.

    FID   |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2)
    KID   mean k(x, x') + mean k(y, y') - 2 mean k(x, y),   k(a, b) = (a.b / width + 1)^3,   x != x', y != y'

tr (S1 S2)^(1/2) is the sum of singular values of A1 A2^T for any factors S = A^T A; with centred features as factors
it needs no square root of a (width x width) matrix and is exact when there are fewer images than features.

Source: Heusel et al. 2017, eq. 6; Binkowski et al. 2018, section 3 and Gretton et al. 2012, eq. 3 and lemma 6.
Differs: one subset with everything in it when there are no more images than a subset holds.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from expunge.errors import ExpungeError


@dataclass(frozen=True)
class Gaussian:
    """Mean and a factor of the covariance.

    Attributes:
        mean: float64 (F,).
        factor: float64 (K, F) with factor^T factor = covariance.
    """

    mean: Tensor
    factor: Tensor

    @property
    def trace(self) -> Tensor:
        """Trace of the covariance."""
        return self.factor.square().sum()


def gaussian(features: Tensor) -> Gaussian:
    """Sample mean and covariance (unbiased) of features (N, F), N >= 2.

    Raises:
        ExpungeError: fewer than two rows, or values that are not finite.
    """
    x = checked(features, 2)
    mean = x.mean(0)
    factor = (x - mean) / (len(x) - 1) ** 0.5  # (N, F)
    return Gaussian(mean, _square(factor.T @ factor) if len(x) > 2 * x.shape[1] else factor)


def gaussian_from_moments(mean: Tensor, covariance: Tensor) -> Gaussian:
    """The same from stored moments: mean (F,), covariance (F, F)."""
    return Gaussian(mean.double(), _square(covariance.double()))


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """Squared Fréchet distance (the "FID" of two sets of features), at least 0."""
    if a.mean.shape != b.mean.shape:
        raise ExpungeError(f"features of width {len(a.mean)} and {len(b.mean)}", accepted="one extractor for both")
    cross = torch.linalg.svdvals(a.factor @ b.factor.T).sum()
    value = (a.mean - b.mean).square().sum() + a.trace + b.trace - 2 * cross
    return max(float(value), 0.0)


@dataclass(frozen=True)
class Kernels:
    """Gram matrices of two sets, so that a bootstrap costs no new features.

    Attributes:
        xx: float64 (N, N); yy: (M, M); xy: (N, M). The diagonals of xx and yy are never used.
        same_items: row i of x and of y are the same item (prompt and seed); then the diagonal of xy is left out too,
            for two images from one noise are not independent.
    """

    xx: Tensor
    yy: Tensor
    xy: Tensor
    same_items: bool = False


def kernels(x: Tensor, y: Tensor, *, same_items: bool = False) -> Kernels:
    """Polynomial kernels of degree 3 between features x (N, F) and y (M, F)."""
    x, y = checked(x, 2), checked(y, 2)
    if x.shape[1] != y.shape[1] or (same_items and len(x) != len(y)):
        raise ExpungeError(f"features of shape {tuple(x.shape)} and {tuple(y.shape)}",
                           accepted="equal widths, and equal counts when they are the same items")
    k = lambda a, b: (a @ b.T / a.shape[1] + 1) ** 3
    return Kernels(k(x, x), k(y, y), k(x, y), same_items)


def kernel_distance(grams: Kernels, rows_x: Tensor | None = None, rows_y: Tensor | None = None) -> float:
    """Unbiased squared maximum mean discrepancy; may be slightly negative.

    Args:
        grams: from `kernels`.
        rows_x, rows_y: items to take, with repeats (a bootstrap draw); None takes each once. Pairs of an item with
            itself stay out, repeats or not. For the same items, `rows_y` is ignored.
    """
    v = _weights(rows_x, len(grams.xx))
    if grams.same_items:
        joint = grams.xx + grams.yy - grams.xy - grams.xy.T
        return float(_off_diagonal(joint, v))
    w = _weights(rows_y, len(grams.yy))
    cross = (v @ grams.xy @ w) / (v.sum() * w.sum())
    return float(_off_diagonal(grams.xx, v) + _off_diagonal(grams.yy, w) - 2 * cross)


def kid(x: Tensor, y: Tensor, *, same_items: bool = False, subset: int = 1000, subsets: int = 100,
        seed: int = 0) -> float:
    """Kernel distance of features (N, F) and (M, F); mean over seeded subsets when there are more than `subset`."""
    if max(len(x), len(y)) <= subset:
        return kernel_distance(kernels(x, y, same_items=same_items))
    draw = torch.Generator().manual_seed(seed)
    values = []
    for _ in range(subsets):
        rows = torch.randperm(len(x), generator=draw)[:subset]
        other = rows if same_items else torch.randperm(len(y), generator=draw)[:subset]
        values.append(kernel_distance(kernels(x[rows], y[other], same_items=same_items)))
    return sum(values) / len(values)


def _off_diagonal(gram: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean of the entries (i, j), i != j."""
    own = weights.square()
    return (weights @ gram @ weights - (own * gram.diagonal()).sum()) / (weights.sum() ** 2 - own.sum())


def _weights(rows: Tensor | None, count: int) -> Tensor:
    if rows is None:
        return torch.ones(count, dtype=torch.float64)
    return torch.bincount(rows, minlength=count).double()


def _square(covariance: Tensor) -> Tensor:
    """A factor (F, F) of a covariance; eigenvalues below 0 are rounding."""
    values, vectors = torch.linalg.eigh(covariance)
    factor: Tensor = values.clamp_min(0).sqrt()[:, None] * vectors.T
    return factor


def checked(features: Tensor, least: int) -> Tensor:
    """Features (N, F) as float64 on the CPU.

    Raises:
        ExpungeError: fewer than `least` rows, or values that are not finite.
    """
    if features.ndim != 2 or len(features) < least:
        raise ExpungeError(f"features of shape {tuple(features.shape)}", accepted=f"(N, F) with N >= {least}")
    if not torch.isfinite(features).all():
        raise ExpungeError("features are not finite", accepted="finite features",
                           remedy="look for broken images among those drawn")
    return features.double().cpu()
