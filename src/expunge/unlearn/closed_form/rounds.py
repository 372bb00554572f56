"""Rounds against the edit itself: find the states that still give the concept's old keys and values, erase those too.

    c' = argmin  sum over layers |W' c' - W c|^2 + ridge |c'|^2  =  (sum W'^T W' + ridge I)^-1 (sum W'^T W) c

W' are the layers as edited so far, W as they were. c' need not be the state of any text, so this is the strongest
attack through the text states, and it is solved for, not searched. `ridge` keeps it small: an edit against states
that no text comes near costs the rest of the model and gains nothing.

Source: Gong et al. 2024, Reliable and Efficient Concept Erasure, eqs. 8 to 11; RECE@10ea80d
    utils/embedding_calculation/close_form_emb.py (regularised towards 0).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from expunge.config import Settings, knob
from expunge.unlearn.closed_form.reading import Reading
from expunge.unlearn.closed_form.refine import gram
from expunge.unlearn.closed_form.solvers import Layers, Solver


@dataclass(frozen=True)
class Solution:
    """Edited layers, and what of them enters sums over all layers.

    Attributes:
        layers: W' by name; inner: (D, D), sum of W'^T W'; cross: (D, D), sum of W'^T W.
    """

    layers: dict[str, Tensor]
    inner: Tensor
    cross: Tensor

    @classmethod
    def of(cls, edited: dict[str, Tensor], original: Layers) -> Solution:
        """The edited layers beside the original ones."""
        return cls(edited, gram(edited), gram(edited, original))


class Rounds(Settings):
    """Settings of the rounds."""

    count: int = knob(5, "Rounds of attack and repair", ge=1, source="RECE train_object.py: epochs")
    ridge: float = knob(1e-3, "Price of the attacking states' size", gt=0.0,
                        source="RECE train_object.py: regular_scale")
    anew: bool = knob(False, "Solve from the original weights with all states found so far; as published, every round "
                             "goes on from the last one's weights with its own states alone")

    def against(self, first: Solution, original: Layers, reading: Reading, solver: Solver, seed: int
                ) -> Iterator[Solution]:
        """The solution after each round, beginning from the `first`, for the concepts and anchors of `reading`."""
        pairs = found = reading.pairs
        last = first
        for _ in range(self.count):
            attack = replace(pairs, c=worst(pairs.c, last, self.ridge))
            if self.anew:
                found = found.and_also(attack)
                last = Solution.of(solver.solve(replace(reading, pairs=found), original, seed), original)
            else:
                last = Solution.of(solver.solve(replace(reading, pairs=attack), last.layers, seed), original)
            yield last


def worst(c: Tensor, edit: Solution, ridge: float) -> Tensor:
    """c' of every state c, float64 (N, D): what the edited layers answer most nearly as the original ones did c."""
    found: Tensor = torch.linalg.solve(edit.inner + ridge * torch.eye(c.shape[1]).to(c), edit.cross @ c.T)
    return found.T
