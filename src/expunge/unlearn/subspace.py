"""Linear algebra of what must stay: conflicts of two gradients, and directions in which a change does nothing to it.

Three kinds of method take out of a change what would undo what must stay. They differ in what they know of it:

    a gradient      `spared`: of the erase gradient, what ascends the keep's loss (surgery.py)
    leading states  `leading`, `along`: of a step, what acts on their directions (projected.py)
    all states      `free_directions`: a change is only sought where they have no energy (closed_form/solvers.py)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Rule = Literal["projection", "cosine"]
Block = Literal["tensor", "global"]


def spared(g_u: Sequence[Tensor], g_r: Sequence[Tensor], strength: float = 1.0, block: Block = "tensor",
           rule: Rule = "projection") -> list[Tensor]:
    """g_u without what contradicts g_r; tensors of a block in no conflict come back as they are, bit for bit."""
    if block == "global":
        factor = _factor(g_u, g_r, strength, rule)
        return [u - factor * r if factor else u for u, r in zip(g_u, g_r, strict=True)]
    factors = [_factor([u], [r], strength, rule) for u, r in zip(g_u, g_r, strict=True)]
    return [u - factor * r if factor else u for u, r, factor in zip(g_u, g_r, factors, strict=True)]


def _factor(g_u: Sequence[Tensor], g_r: Sequence[Tensor], strength: float, rule: Rule) -> float:
    """How much of g_r to take from g_u: below 0 in conflict, else 0.

        projection   lambda g_u . g_r / |g_r|^2
        cosine       lambda cos(g_u, g_r) / |g_r|
    """
    dot = float(inner(g_u, g_r))
    if dot >= 0:
        return 0.0
    own, other = float(norm(g_u)), float(norm(g_r))
    return strength * dot / other**2 / (own if rule == "cosine" else 1.0)


def inner(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """Inner product of two gradients by tensor, in float64: products of small ones would vanish in float32."""
    return torch.stack([(x.double() * y.double()).sum() for x, y in zip(a, b, strict=True)]).sum()


def norm(tensors: Sequence[Tensor]) -> Tensor:
    """L2 norm over all entries, float64."""
    return inner(tensors, tensors).sqrt()


def second_moment(states: Tensor, weights: Tensor | None = None) -> Tensor:
    """sum_n w_n s_n s_n^T, float64 (D, D), of states (N, D); weights are 1 if not given."""
    total = states.new_zeros(states.shape[1], states.shape[1], dtype=torch.float64)
    for start in range(0, len(states), 4096):
        s = states[start:start + 4096].double()
        total += s.T @ (s if weights is None else weights[start:start + 4096, None] * s)
    return total


def leading(states: Tensor, energy: float) -> Tensor:
    """float64 (D, r), orthonormal: the fewest directions of `states` (N, D) that hold `energy` of their second moment.
    """
    C = states.double()
    values, vectors = torch.linalg.eigh(C.T @ C)
    share = values.flip(0).cumsum(0) / values.sum()
    U: Tensor = vectors.flip(1)[:, :int((share < energy).sum()) + 1]
    return U


def along(dW: Tensor, U: Tensor) -> Tensor:
    """dW U U^T: what the change (O, D) does in the directions U (D, r), orthonormal."""
    return (dW @ U) @ U.T


def free_directions(kept: Tensor, empty: Tensor, threshold: float, empty_share: float) -> Tensor:
    """Orthonormal (D, K): directions in which neither `kept` (M, D) nor the main part of `empty` (T, D) has any energy.

    Args:
        threshold: energy up to which a direction of `kept` counts as none, in mean eigenvalues of its second moment.
        empty_share: the same for `empty`, as a share of its largest singular value.
    """
    N = torch.eye(kept.shape[1]).to(kept)
    if len(kept):
        values, vectors = torch.linalg.eigh(second_moment(kept) / len(kept))
        N = vectors[:, values < threshold * values.mean()]
    _, s, main = torch.linalg.svd(empty, full_matrices=False)
    held = N.T @ main[s > empty_share * s[0]].T  # (K, E)
    U, s, _ = torch.linalg.svd(held, full_matrices=True)
    free: Tensor = N @ U[:, int((s > 1e-10).sum()):]
    return free


def span(columns: Tensor, share: float) -> Tensor:
    """Orthonormal (D, r) basis of the span of `columns` (D, N), without directions below `share` of the largest."""
    U, s, _ = torch.linalg.svd(columns, full_matrices=False)
    basis: Tensor = U[:, s > share * s[0]]
    return basis
