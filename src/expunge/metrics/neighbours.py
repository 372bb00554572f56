"""Nearest neighbours of features: improved precision and recall of a set of images.

    precision   share of b within reach of a: within the distance from some a_i to its own k-th nearest neighbour in a
    recall      share of a within reach of b

Precision falls when images look like none of the reference; recall falls when part of the reference is drawn no more.

Source: Kynkäänniemi et al. 2019, eq. 1 and 2. Differs: distances in float64.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from expunge.errors import ExpungeError
from expunge.metrics.distance import checked


class PrecisionRecall(NamedTuple):
    """Shares in [0, 1], and who was counted."""

    precision: float
    recall: float
    inside: Tensor
    """(M,) bool: which of b are within reach of a."""
    covered: Tensor
    """(N,) bool: which of a are within reach of b."""


def precision_recall(features_a: Tensor, features_b: Tensor, k: int = 3) -> PrecisionRecall:
    """How much of b lies among a (precision), and how much of a is reached by b (recall).

    Args:
        features_a: (N, F) of the reference, for example the original model's images.
        features_b: (M, F) of the images in question. k: neighbour that sets the reach of a point.

    Raises:
        ExpungeError: no more than k images on a side, widths that differ, or values that are not finite.
    """
    a, b = checked(features_a, k + 1), checked(features_b, k + 1)
    if a.shape[1] != b.shape[1]:
        raise ExpungeError(f"features of width {a.shape[1]} and {b.shape[1]}", accepted="one extractor for both")
    reach_a, reach_b = own_distances(a, k), own_distances(b, k)
    inside, covered = torch.zeros(len(b), dtype=torch.bool), []
    for rows, reach in zip(a.split(_ROWS), reach_a.split(_ROWS), strict=True):
        between = _apart(rows, b)  # (n, M)
        inside |= (between <= reach[:, None]).any(0)
        covered.append((between <= reach_b[None, :]).any(1))
    covered_all = torch.cat(covered)
    return PrecisionRecall(float(inside.double().mean()), float(covered_all.double().mean()), inside, covered_all)


def own_distances(features: Tensor, k: int) -> Tensor:
    """float64 (N,): distance of each row of (N, F) to the k-th nearest of the others."""
    out = []
    for start in range(0, len(features), _ROWS):
        apart = _apart(features[start:start + _ROWS], features)
        own = torch.arange(len(apart))
        apart[own, own + start] = torch.inf
        out.append(apart.kthvalue(k, dim=1).values)
    return torch.cat(out)


def distances_to(reference: Tensor, features: Tensor, k: int) -> Tensor:
    """float64 (M,): distance of each row of `features` (M, F) to the k-th nearest row of `reference` (N, F)."""
    parts = [_apart(rows, reference).kthvalue(k, dim=1).values for rows in features.split(_ROWS)]
    return torch.cat(parts) if len(features) else torch.zeros(0, dtype=torch.float64)


_ROWS = 256
"""Rows whose distances to all others are held at once."""


def _apart(a: Tensor, b: Tensor) -> Tensor:
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
