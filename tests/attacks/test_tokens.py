"""Free tokens: the projection and the draw against references, what a search step does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from torch import Tensor

from expunge.attacks.tokens import Hard, Simplex, Vocabulary, drawn, on_simplex


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bisected(row: np.ndarray) -> np.ndarray:
    """The projection by its definition: clip(row - mu, 0, 1) with mu such that it sums to 1."""
    mu = brentq(lambda shift: np.clip(row - shift, 0, 1).sum() - 1, row.min() - 1, row.max())
    return np.asarray(np.clip(row - mu, 0, 1))


@pytest.mark.parametrize("scale", [1e-4, 1.0, 30.0])
def test_projection_on_the_simplex_is_the_reference(scale: float) -> None:
    rows = scale * torch.randn(6, 300, generator=generator(), dtype=torch.float64)
    projected = on_simplex(rows)
    wanted = np.stack([bisected(row) for row in rows.numpy()])
    np.testing.assert_allclose(projected.numpy(), wanted, atol=1e-10)
    single = on_simplex(rows.float())
    np.testing.assert_allclose(single.numpy(), wanted, atol=1e-6 * max(1, scale))
    assert single.dtype == torch.float32


def test_projection_leaves_distributions_and_finds_corners() -> None:
    inside = torch.tensor([[0.2, 0.3, 0.5], [0.0, 0.0, 1.0], [1 / 3, 1 / 3, 1 / 3]])
    torch.testing.assert_close(on_simplex(inside), inside)
    torch.testing.assert_close(on_simplex(torch.tensor([[9.0, 1.0, 1.0]])), torch.tensor([[1.0, 0.0, 0.0]]))


def test_tokens_are_drawn_with_their_probabilities() -> None:
    P = torch.tensor([[0.5, 0.0, 0.3, 0.2, 0.0], [0.0, 0.0, 0.0, 0.0, 1.0]])
    chain = generator()
    draws = torch.stack([drawn(P, chain) for _ in range(4000)])  # (4000, 2)
    rates = draws[:, 0].bincount(minlength=5) / 4000
    assert (draws[:, 1] == 4).all()
    assert rates[[1, 4]].sum() == 0
    torch.testing.assert_close(rates, P[0], atol=0.03, rtol=0)


def test_the_plain_vocabulary_reads_back_as_itself(model: Any) -> None:
    words, whole = Vocabulary.of(model), Vocabulary.of(model, "whole")
    assert 0 < len(words.ids) < len(whole.ids) == len(model.texts[0].tokenizer)
    assert all(model.texts[0].tokens(model.texts[0].text_of([token])) == [token] for token in words.ids.tolist())
    torch.testing.assert_close(words.unit.norm(dim=1), torch.ones(len(words.ids)))


def test_nearest_goes_by_angle_not_by_distance(model: Any) -> None:
    words = Vocabulary.of(model)
    assert words.nearest(40 * words.W[[3, 7]]).tolist() == [3, 7]


def pulled(words: Vocabulary, goal: int) -> Tensor:
    """Gradient (1, D) of -(cosine to token `goal`) at an embedding: points away from the goal."""
    return -words.unit[goal][None]


def test_the_simplex_moves_to_tokens_with_a_smaller_loss(model: Any) -> None:
    words = Vocabulary.of(model)
    losses = (words.W - words.W[5]).square().sum(1)  # (V,)
    search = Simplex(words, 1, generator(), learning_rate=0.01, weight_decay=0.0, clip=1.0)
    torch.testing.assert_close(search.P, torch.full_like(search.P, 1 / len(words.ids)))
    for _ in range(100):
        points = search.points()
        assert (points == words.W).all(1).any()  # a real token's embedding, not a mixture
        search.step(2 * (points - words.W[5]))
        torch.testing.assert_close(search.P.sum(1), torch.ones(1))
        assert (search.P >= 0).all()
    assert float(search.P @ losses) < 0.9 * float(losses.mean())
    assert float(losses[int((words.ids == search.ids()[0]).nonzero())]) < float(losses.mean())


def test_the_simplex_gradient_is_that_of_the_one_hot_product(model: Any) -> None:
    words = Vocabulary.of(model)
    onehot = torch.eye(len(words.ids))[[4]].requires_grad_()
    (onehot @ words.W).square().sum().backward()
    assert onehot.grad is not None
    search = Simplex(words, 1, generator(), learning_rate=0.01, weight_decay=0.0, clip=1e9)
    search.step(2 * words.W[[4]])
    torch.testing.assert_close(search.P.grad, onehot.grad)
    clipped = Simplex(words, 1, generator(), learning_rate=0.01, weight_decay=0.0, clip=1e-6)
    clipped.step(2 * words.W[[4]])
    torch.testing.assert_close(clipped.P.grad, onehot.grad.clamp(-1e-6, 1e-6))


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.AdamW])
def test_hard_tokens_are_rounded_at_every_step(model: Any, optimizer: type[torch.optim.Optimizer]) -> None:
    words = Vocabulary.of(model)
    search = Hard(words, 1, generator(), learning_rate=0.01, weight_decay=0.0, optimizer=optimizer)
    first = search.ids()
    assert torch.equal(search.points(), search.S)  # it starts at a token
    for _ in range(100):
        search.step(pulled(words, 5))
        assert (search.points() == words.W).all(1).any()
    assert search.ids() == (int(words.ids[5]),) != first
