"""Two ways to search for the free tokens of a prompt with gradients.

k is the number of free tokens of an item, V the size of the vocabulary they are taken from, D the text width,
W (V, D) its embeddings, g (k, D) the loss's gradient at the embeddings last looked up.

    simplex   P (k, V), each row a distribution: look up a token drawn from each row; P <- project(P - Adam(g W^T))
    hard      S (k, D), free vectors: look up each row's nearest token by cosine;     S <- S - Adam(g)

The first passes the gradient straight through the draw (Zhang et al. 2024, UnlearnDiffAtk), the second through the
rounding (Wen et al. 2023, PEZ, algorithm 1). Every item has its own state, so that a settled one just drops out, and
nothing here is computed for two items together: rounding cannot make one depend on another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Generator, Tensor
from torch.nn.functional import normalize
from torch.optim import Optimizer

from expunge.models.model import Model


@dataclass(frozen=True)
class Vocabulary:
    """Tokens that may stand in free places: ids int64 (V,), W float32 (V, D), unit (V, D) its rows at length 1."""

    ids: Tensor
    W: Tensor
    unit: Tensor

    @classmethod
    def of(cls, model: Model, which: Literal["plain", "whole"] = "plain") -> Vocabulary:
        """"plain": tokens that read back as themselves; "whole": every token, start and end among them."""
        weights = model.texts[0].table
        ids = model.texts[0].plain if which == "plain" else torch.arange(len(model.texts[0].tokenizer))
        ids = ids.to(weights.device)
        return cls(ids, weights[ids], normalize(weights[ids], dim=1))

    def nearest(self, vectors: Tensor) -> Tensor:
        """int64 (k,): the row of W with the largest cosine to each of `vectors` (k, D)."""
        return (normalize(vectors, dim=1) @ self.unit.T).argmax(1)


class FreeTokens(Protocol):
    """What is searched for one item."""

    def points(self) -> Tensor:
        """(k, D): embeddings at which the next loss is taken."""
        ...

    def step(self, gradient: Tensor) -> None:
        """One step down the loss; `gradient` (k, D) is its gradient at the last `points`."""
        ...

    def ids(self) -> tuple[int, ...]:
        """The k tokens that the search stands at now."""
        ...


class Simplex:
    """A distribution over the vocabulary for each free place, starting uniform.

    Source: Zhang et al. 2024; text_grad, Diffusion-MU-Attack@5a3e5d3. Differs: the projection is exact, by sorting
    (bisection to 1e-5 there).
    """

    def __init__(self, words: Vocabulary, count: int, generator: Generator, *, learning_rate: float,
                 weight_decay: float, clip: float) -> None:
        """Adam with `weight_decay` as a part of the gradient, which is cut to [-clip, clip] before it is added."""
        self._words, self._generator, self._clip = words, generator, clip
        self.P = torch.full((count, len(words.ids)), 1 / len(words.ids), device=words.W.device)
        self._optimizer = torch.optim.Adam([self.P], lr=learning_rate, weight_decay=weight_decay)

    def points(self) -> Tensor:
        return self._words.W[drawn(self.P, self._generator)]

    def step(self, gradient: Tensor) -> None:
        self.P.grad = (gradient @ self._words.W.T).clamp_(-self._clip, self._clip)
        self._optimizer.step()
        self.P.copy_(on_simplex(self.P))

    def ids(self) -> tuple[int, ...]:
        return tuple(self._words.ids[self.P.argmax(1)].tolist())


class Hard:
    """A free vector for each free place, starting at a random token.

    Source: Wen et al. 2023, algorithm 1. Differs: none.
    """

    def __init__(self, words: Vocabulary, count: int, generator: Generator, *, learning_rate: float,
                 weight_decay: float, optimizer: type[Optimizer]) -> None:
        """`optimizer`: torch.optim.Adam (decay as a part of the gradient) or AdamW (decay of its own)."""
        self._words = words
        start = torch.randint(len(words.ids), (count,), generator=generator)
        self.S = words.W[start.to(words.W.device)].clone()
        self._optimizer = optimizer([self.S], lr=learning_rate, weight_decay=weight_decay)  # type: ignore[call-arg]

    def points(self) -> Tensor:
        return self._words.W[self._words.nearest(self.S)]

    def step(self, gradient: Tensor) -> None:
        self.S.grad = gradient
        self._optimizer.step()

    def ids(self) -> tuple[int, ...]:
        return tuple(self._words.ids[self._words.nearest(self.S)].tolist())


def on_simplex(rows: Tensor) -> Tensor:
    """The nearest points (Euclidean) of the probability simplex to the rows of a float (k, V).

    With u a row sorted from large to small, rho the largest j for which u_j > (u_1 + ... + u_j - 1) / j, and mu that
    quotient at rho, the projection is max(row - mu, 0).

    Source: Duchi et al. 2008, figure 1. Differs: all rows at once.
    """
    u = rows.sort(dim=1, descending=True).values
    places = torch.arange(1, rows.shape[1] + 1, device=rows.device)
    shifts = (u.cumsum(1, dtype=torch.float64) - 1) / places  # (k, V)
    rho = (u > shifts).sum(1, keepdim=True)  # the condition holds for the first rho places and no others
    mu = shifts.gather(1, rho - 1)
    return (rows - mu).clamp(min=0).to(rows.dtype)


def drawn(P: Tensor, generator: Generator) -> Tensor:
    """int64 (k,): one place of each row of P (k, V), drawn with the row's probabilities; none of probability 0.

    By inversion of the row's distribution function at one number from `generator`, a CPU generator, so that the draw is
    the same on every device.
    """
    steps = P.cumsum(1, dtype=torch.float64)  # (k, V)
    u = torch.rand(len(P), 1, generator=generator).to(P.device) * steps[:, -1:]
    return torch.searchsorted(steps, u, right=True).squeeze(1)
