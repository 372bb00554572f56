"""Improved precision and recall against the definition, written out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.metrics.neighbours import precision_recall


def by_hand(real: np.ndarray, drawn: np.ndarray, k: int) -> tuple[float, float]:
    """Kynkäänniemi et al. 2019, eq. 1: one loop per sum and per quantifier."""
    def reached(points: np.ndarray, by: np.ndarray) -> float:
        count = 0
        for point in points:
            for centre in by:
                others = sorted(float(np.linalg.norm(centre - other)) for other in by)
                if float(np.linalg.norm(point - centre)) <= others[k]:  # others[0] is the centre itself
                    count += 1
                    break
        return count / len(points)

    return reached(drawn, real), reached(real, drawn)


def cloud(n: int, seed: int, shift: float = 0.0, spread: float = 1.0) -> Tensor:
    return torch.randn(n, 5, generator=torch.Generator().manual_seed(seed)) * spread + shift


@pytest.mark.parametrize(("n", "m", "k", "shift", "spread"), [
    (30, 20, 3, 0.0, 1.0), (20, 35, 1, 1.0, 0.5), (25, 25, 5, 2.0, 1.5), (12, 9, 2, 0.5, 0.2)])
def test_it_agrees_with_the_definition(n: int, m: int, k: int, shift: float, spread: float) -> None:
    a, b = cloud(n, 1), cloud(m, 2, shift, spread)
    found = precision_recall(a, b, k)
    assert (found.precision, found.recall) == pytest.approx(by_hand(a.double().numpy(), b.double().numpy(), k))
    assert (found.inside.shape, found.covered.shape) == ((m,), (n,))


def test_the_same_pictures_have_both_and_pictures_far_away_have_neither() -> None:
    a = cloud(40, 0)
    assert precision_recall(a, a)[:2] == (1.0, 1.0)
    assert precision_recall(a, a + 100)[:2] == (0.0, 0.0)


def test_one_picture_for_everything_is_precise_and_recalls_little() -> None:
    a = cloud(60, 0)
    found = precision_recall(a, a[:1] + cloud(30, 3, spread=1e-3))
    assert found.precision == 1.0
    assert found.recall < 0.1


def test_too_few_or_broken_features_are_refused() -> None:
    with pytest.raises(ExpungeError, match="N >= 4"):
        precision_recall(cloud(3, 0), cloud(9, 1))
    with pytest.raises(ExpungeError, match="finite"):
        precision_recall(cloud(9, 0), torch.full((9, 5), torch.nan))
    with pytest.raises(ExpungeError, match="one extractor"):
        precision_recall(cloud(9, 0), torch.rand(9, 4))
