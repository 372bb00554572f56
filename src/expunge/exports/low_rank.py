"""A change of a weight as the product of two factors: exact where its rank is low, else truncated by kept energy.

    D = U S V^T,   kept(r) = sum_{i<=r} s_i^2 / sum s_i^2,   up = U_r S_r^{1/2},  down = S_r^{1/2} V_r^T,   alpha = r

r is the smallest with kept(r) >= energy, under a cap. Where D has a low rank to begin with (a closed form's change has
that of its number of edited vectors), r is that rank whatever the energy. The rank is counted above the noise that
rounding the new weights to their number type leaves in D.

Source: Eckart and Young 1936: no pair of rank r is closer, and the relative error is sqrt(1 - kept). kohya-ss
networks/extract_lora_from_models.py. Differs: nothing is clamped to a quantile, no weight is skipped because its change
is small, and S goes half to each factor, which is where half precision holds both best.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

ENERGY = 0.999
"""Share of a change's squared singular values that is kept where nobody names another."""


@dataclass(frozen=True)
class Factors:
    """down (r, in, ...) and up (out, r, ...), whose product times `scale` is the change.

    kept: share of the squared singular values: 1 where nothing but rounding noise was left out, None where nothing was
        decomposed.
    """

    down: Tensor
    up: Tensor
    scale: float = 1.0
    kept: float | None = None

    @property
    def rank(self) -> int:
        """Number of rows of `down`."""
        return len(self.down)

    @property
    def cut(self) -> bool:
        """Whether something of the change was truncated."""
        return self.kept is not None and self.kept < 1

    def product(self) -> Tensor:
        """scale * up down, float64 (out, in)."""
        return self.scale * (self.up.double().flatten(1) @ self.down.double().flatten(1))


def pays(rank: int, rows: int, columns: int) -> bool:
    """Whether two factors are smaller than the matrix."""
    return rank * (rows + columns) < rows * columns


def noise(after: Tensor, number: torch.dtype) -> float:
    """Largest singular value that rounding `after` to its number type can be expected to leave in a difference.

    Of independent errors of size u |w| / sqrt(3), u half a unit in the last place, in an m x n matrix:
    sigma (sqrt m + sqrt n); three times that.
    """
    rows, columns = len(after), after[0].numel()
    sigma = float(after.double().pow(2).mean().sqrt()) * torch.finfo(number).eps / 2 / 3**0.5
    return float(3 * sigma * (rows**0.5 + columns**0.5))


@torch.no_grad()
def factored(delta: Tensor, *, energy: float, cap: int | None, floor: float, number: torch.dtype) -> Factors:
    """Factors of a change.

    Args:
        delta: float64 (out, in) or (out, in, kh, kw), not all zero.
        energy: kept share of the squared singular values, in (0, 1].
        cap: largest rank; None for none.
        floor: singular values up to this are rounding noise.
        number: type of the factors.
    """
    matrix = delta.flatten(1)
    rows, columns = matrix.shape
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    squares = s.pow(2)
    shares = squares.cumsum(0) / squares.sum()
    told = rank = max(1, int((s > floor).sum()))
    if not (rank < min(rows, columns) and pays(rank, rows, columns)):
        enough = int((shares < energy).sum()) + 1
        rank = max(1, min(rank, enough)) if energy < 1 else len(s)
    rank = min(rank, cap) if cap is not None else rank
    kept = 1.0 if rank >= told else float(shares[rank - 1])
    half = s[:rank].sqrt()
    down, up = half[:, None] * v[:rank], u[:, :rank] * half
    sides = delta.shape[2:]
    return Factors(down.reshape(rank, delta.shape[1], *sides).to(number),
                   up.reshape(rows, rank, *(1 for _ in sides)).to(number), 1.0, kept)
