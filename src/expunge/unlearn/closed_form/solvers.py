"""The three ways to solve for new key and value projections W' of text states.

c is a state of a concept, g the one that takes its place, a its weight, p a state that must stay, W a projection as it
was. All are linear least squares in another space of allowed changes:

    ridge       W' = W + D          any change, paid for by its size
    null space  W' = W + D, D p = 0  no change at all on what must stay
    Procrustes  W' = P W, P^T P = I  a rotation of all outputs at once

Where the wanted output is W g, the first two give W' = W (I + S) with one S for all layers: S is solved for once,
whatever the number of layers and concepts. All is done in float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Protocol

import torch
from torch import Tensor

from expunge.config import ByKind, Settings, knob
from expunge.errors import TrainingError, UserError
from expunge.unlearn.closed_form.reading import Pairs, Reading
from expunge.unlearn.closed_form.refine import Refine, gram
from expunge.unlearn.subspace import free_directions, second_moment, span

Layers = Mapping[str, Tensor]
"""Projections float64 (O, D) by full name, all of one input width."""


class Solver(Protocol):
    """Settings of a way to solve."""

    def solve(self, reading: Reading, layers: Layers, seed: int) -> dict[str, Tensor]:
        """New values of `layers`.

        Raises:
            UserError: nothing can be changed without changing what must stay.
            TrainingError: numbers that cannot be solved with.
        """
        ...


class Ridge(Settings):
    """Least squares with a price on the change.

        W' = argmin  erase sum a |W'c - W g|^2 + keep sum |W'p - W p|^2 + size |W' - W|^2
           = W (I + S),   S = B A^-1,
        A = erase sum a c c^T + keep sum p p^T + size I,   B = erase sum a (g - c) c^T

    Source: Gandikota et al. 2024, Unified Concept Editing, eq. 7; unified-concept-editing@35e91e2 (technique
        "replace"). Differs: solved by Cholesky in float64, not by an inverse in float32; a concept told by several
        texts counts once.
    """

    kind: Literal["ridge"] = "ridge"
    erase: float = knob(1.0, "Weight of the concept's states", gt=0.0, source="UCE erase_scale")
    keep: float | None = knob(None, "Weight of every state to keep; none is max(0.1, 1 / number of texts to keep)",
                              ge=0.0, source="UCE preserve_scale")
    size: float = knob(0.5, "Price of the change itself", gt=0.0, source="UCE lamb")

    def solve(self, reading: Reading, layers: Layers, seed: int) -> dict[str, Tensor]:
        """W (I + S) for every layer."""
        pairs = reading.pairs
        keep = max(0.1, 1.0 / reading.texts) if self.keep is None else self.keep
        kept = sum((second_moment(part) for part in (reading.keep, reading.empty, reading.retained)),
                   torch.zeros_like(_eye(pairs)))
        A = self.erase * second_moment(pairs.c, pairs.a) + keep * kept + self.size * _eye(pairs)
        S = _divided(self.erase * _moved(pairs), A)
        return {name: W + W @ S for name, W in layers.items()}


class NullSpace(Settings):
    """Least squares among the changes that do nothing to what must stay.

        W' = W + D,   D = argmin  sum a |(W + D)c - W g|^2 + size |D|^2   with D p = 0, D e = 0
           = W (I + S),   S = B N (N^T A N + size I)^-1 N^T,
        A = sum a c c^T,   B = sum a (g - c) c^T

    with p the states to keep (refined, see refine.py), e those of the empty prompt, and N an orthonormal basis of the
    directions that are orthogonal to both. "Orthogonal to p" means: with an eigenvalue of the second moment of the p
    below `threshold`; e is kept in its main directions, its rest is left free.

    Source: Li et al. 2026, SPEED: Scalable, Precise, and Efficient Concept Erasure, eqs. 4 to 12; the published
        S = B P Q M with P = N_p N_p^T, M = (A P + I)^-1, Q = I - M e (e^T P M e)^-1 e^T P is the same matrix. Differs:
        solved inside the null space, which needs no inverse that may not exist; sums over concepts where the released
        code averages; the threshold is in units of the mean eigenvalue (CLIP's text states have about 1); the empty
        prompt by its main directions, not by three cluster centres; one refined prior and one null space for all
        layers unless `per_layer`.
    """

    kind: Literal["null space"] = "null space"
    size: float = knob(1.0, "Price of the change itself", gt=0.0, source="SPEED retain_scale")
    threshold: float = knob(0.1, "Directions in which states to keep have less energy than this are free",
                            unit="mean eigenvalues", gt=0.0, source="SPEED threshold (1e-4 for many concepts)")
    empty_share: float = knob(0.01, "Directions of the empty prompt below this share of its largest are free", gt=0.0,
                              le=1.0)
    refine: Refine | None = knob(Refine(), "How the states to keep are chosen and added to; none keeps all as they are")
    per_layer: bool = knob(False, "Refine for every layer by itself, as published; many times slower")

    def solve(self, reading: Reading, layers: Layers, seed: int) -> dict[str, Tensor]:
        """W (I + S) for every layer."""
        if not self.per_layer or self.refine is None:
            S = self._shift(reading, layers, seed)
            return {name: W + W @ S for name, W in layers.items()}
        return {name: W + W @ self._shift(reading, {name: W}, seed) for name, W in layers.items()}

    def _shift(self, reading: Reading, layers: Layers, seed: int) -> Tensor:
        pairs, kept = reading.pairs, torch.cat([reading.keep, reading.retained]).double()
        if self.refine is not None and len(kept):
            kept = self.refine(kept, _erase_only(pairs), gram(layers), seed)
        N = free_directions(kept, reading.empty.double(), self.threshold, self.empty_share)  # (D, K)
        if not N.shape[1]:
            raise UserError(f"{len(kept)} states to keep leave no direction free among {len(N)}",
                            accepted="fewer things to keep, or a higher solver.threshold")
        A = N.T @ second_moment(pairs.c, pairs.a) @ N + self.size * torch.eye(N.shape[1]).to(N)
        return _divided(_moved(pairs) @ N, A) @ N.T


class Procrustes(Settings):
    """The rotation of a layer's outputs that does it best.

    P = argmax tr(P M) over P^T P = I, with M the sum of what erases and what keeps:

        subspace   M_e = -R (I - R*),   R, R* projections on the spans of W c and of W g
                   (from argmax |P R - (I - R*)|^2: what the concepts turn into leaves all but the anchors' span)
        vector     M_e = sum a (W c)(W g)^T   (from argmin sum a |P W c - W g|^2)
        M = erase M_e + W (keep sum p p^T + retained mean p' p'^T + size I) W^T

    P = V U^T with M = U Sigma V^T. It acts inside the span of W's columns, so it is solved for there; outputs keep
    their lengths and angles. p are the states to keep, p' those of other things (the prior K_0).

    Source: Sun et al. 2026, Orthogonal Concept Erasure, eqs. 5 to 11; OCE oce.py@1164d39. Differs: the published
        P = U V^T belongs to argmax tr(P^T M), so with the published M, which is not symmetric, it is the inverse
        rotation: concepts turn away from their anchors (`legacy_inverse`). Spans are cut off where directions are only
        rounding apart. The empty prompt is among the states to keep. A P with determinant -1 is as good as another; the
        release flips one of its columns then, which leaves the optimum.
    """

    kind: Literal["procrustes"] = "procrustes"
    level: Literal["subspace", "vector"] = knob("subspace", "Whether whole spans or single states are moved",
                                                source="OCE")
    erase: float = knob(1.0, "Weight of what erases", gt=0.0, source="OCE erase_scale")
    keep: float = knob(0.3, "Weight of every state to keep", ge=0.0, source="OCE preserve_concept_scale")
    retained: float = knob(0.5, "Weight of the mean over states of other things", ge=0.0,
                           source="OCE preserve_global_scale")
    size: float = knob(1.5, "Weight of keeping all directions alike", gt=0.0, source="OCE lamb")
    span_share: float = knob(0.01, "Directions of a span below this share of its largest are left out", gt=0.0, lt=1.0)
    legacy_inverse: bool = knob(False, "Apply the inverse rotation, as the released code does", source="oce.py@1164d39")

    def solve(self, reading: Reading, layers: Layers, seed: int) -> dict[str, Tensor]:
        """P W for every layer, each with its own P."""
        kept = self.keep * (second_moment(reading.keep) + second_moment(reading.empty) / max(1, len(reading.empty)))
        kept += self.retained * second_moment(reading.retained) / max(1, len(reading.retained))
        kept += self.size * _eye(reading.pairs)
        return {name: self._rotated(W, reading.pairs, kept) for name, W in layers.items()}

    def _rotated(self, W: Tensor, pairs: Pairs, kept: Tensor) -> Tensor:
        Q, V = torch.linalg.qr(W)  # W = Q V: Q (O, K) spans the outputs, V (K, D) is W inside them
        if self.level == "vector":
            M = (V @ (pairs.a[:, None] * pairs.c).T) @ (V @ pairs.g.T).T
        else:
            U, G = self._span(V @ pairs.c.T), self._span(V @ pairs.g.T)
            M = -(U @ U.T) @ (torch.eye(len(V)).to(V) - G @ G.T)
        P = rotation(self.erase * M + V @ kept @ V.T)
        out: Tensor = Q @ ((P.T if self.legacy_inverse else P) @ V)
        return out

    def _span(self, columns: Tensor) -> Tensor:
        """Orthonormal basis of the columns' span, each column counting alike."""
        length = columns.norm(dim=0)
        return span(columns / length.clamp_min(torch.finfo(columns.dtype).tiny), self.span_share)


AnySolver = Annotated[Ridge | NullSpace | Procrustes, ByKind("solver")]


def rotation(M: Tensor) -> Tensor:
    """The orthogonal P that makes tr(P M) largest. TrainingError: M is not finite."""
    if not bool(M.isfinite().all()):
        raise TrainingError("no rotation can be solved for: there are values that are not finite",
                            accepted="finite weights and text states")
    U, _, Vh = torch.linalg.svd(M)
    P: Tensor = (U @ Vh).T
    return P


def _erase_only(pairs: Pairs) -> Tensor:
    """S of the change that erases and keeps nothing: what would move, and how far."""
    return _divided(_moved(pairs), second_moment(pairs.c, pairs.a) + _eye(pairs))


def _moved(pairs: Pairs) -> Tensor:
    """sum a (g - c) c^T, (D, D)."""
    return (pairs.a[:, None] * (pairs.g - pairs.c)).T @ pairs.c


def _divided(B: Tensor, A: Tensor) -> Tensor:
    """B A^-1 of a positive definite A, by Cholesky. TrainingError: A is not positive definite."""
    L, info = torch.linalg.cholesky_ex(A)
    if int(info):
        raise TrainingError("the normal equations are not positive definite", accepted="finite weights",
                            remedy="raise solver.size")
    return torch.cholesky_solve(B.T, L).T


def _eye(pairs: Pairs) -> Tensor:
    return torch.eye(pairs.c.shape[1]).to(pairs.c)
