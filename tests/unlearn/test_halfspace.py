"""The concept's share of a prediction, against hand computation, and in which directions the loss pulls."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from expunge.errors import UserError
from expunge.records import Request
from expunge.unlearn.context import TrainContext
from expunge.unlearn.halfspace import HalfSpace, beyond, share
from expunge.unlearn.recipe import Recipe
from expunge.unlearn.source import FrozenTrajectory

REQUEST = Request(concept="church", prompts=("a church on a hill",), anchor="house")
POOL = FrozenTrajectory(grid=4, trajectories=2)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


Q, V = random(3, 4, 8, 8), random(3, 4, 8, 8, seed=1)


def test_the_share_is_one_at_the_concept_and_nothing_at_the_anchor() -> None:
    torch.testing.assert_close(share(Q + V, Q, V, 0.0), torch.ones(3))
    torch.testing.assert_close(share(Q, Q, V, 0.0), torch.zeros(3))
    size = V.square().flatten(1).sum(1)
    torch.testing.assert_close(share(Q + V, Q, V, 5.0), size / (size + 5.0))


def test_the_loss_by_hand() -> None:
    out = Q + 0.6 * V + 0.2 * random(3, 4, 8, 8, seed=2)
    total = 0.0
    for o, q, v in zip(out, Q, V, strict=True):
        size = float((v * v).sum())
        a = float(((o - q) * v).sum()) / (size + 2.0)
        total += size / v.numel() * max(0.0, a - 0.25) ** 2
    assert float(beyond(out, Q, V, 0.25, 2.0)) == pytest.approx(total / 3, rel=1e-5)


def test_on_the_anchors_side_loss_and_gradient_are_nothing() -> None:
    for left in (Q + 0.25 * V - 1e-4 * V, Q, Q - 3 * V):
        out = left.clone().requires_grad_(True)
        loss = beyond(out, Q, V, 0.25, 0.0)
        (gradient,) = torch.autograd.grad(loss, out)
        assert float(loss) == 0
        assert not gradient.any()


def test_what_is_orthogonal_to_the_concept_is_left_alone() -> None:
    other = random(3, 4, 8, 8, seed=3)
    other = other - share(Q + other, Q, V, 0.0)[:, None, None, None] * V
    out = (Q + 0.8 * V).requires_grad_(True)
    moved = (Q + 0.8 * V + other).requires_grad_(True)
    (first,), (second,) = (torch.autograd.grad(beyond(at, Q, V, 0.25, 0.0), at) for at in (out, moved))
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-6)
    along = (first * V).flatten(1).sum(1, keepdim=True) / V.square().flatten(1).sum(1, keepdim=True)
    torch.testing.assert_close(first.flatten(1), along * V.flatten(1), rtol=1e-4, atol=1e-7)


def test_the_share_is_the_same_in_eps_and_in_v() -> None:
    signal, sigma, x = 0.8, 0.6, random(3, 4, 8, 8, seed=4)
    as_v = lambda eps: (eps - sigma * x) / signal
    out = Q + 0.4 * V + random(3, 4, 8, 8, seed=5)
    q, p = as_v(Q), as_v(Q + V)
    torch.testing.assert_close(share(as_v(out), q, p - q, 0.0), share(out, Q, V, 0.0), rtol=1e-4, atol=1e-5)


def test_the_original_itself_has_the_whole_share(model: Any) -> None:
    context = TrainContext(model, model.frozen_copy(), REQUEST, 0)
    stream = POOL.open(context, REQUEST.prompts, 3, "erase")
    with torch.no_grad():
        kept = HalfSpace(level=0.25, kappa=0.0).prepare(context, stream, None).loss(0)
        points = stream.draw(0)
        p, q = (model.predict(points.x_t, points.t, model.encode([text]).repeat(3))
                for text in ("a church on a hill", "a house on a hill"))
        size = (p - q).square().flatten(1).sum(1)
    assert float(kept) == pytest.approx(float((size / p[0].numel() * 0.75 ** 2).mean()), rel=1e-3)


def test_with_the_empty_prompt_the_loss_is_larger_and_fresh_points_give_the_same(model: Any) -> None:
    context = TrainContext(model, model.frozen_copy(), REQUEST, 0)
    stream = POOL.open(context, REQUEST.prompts, 3, "erase")
    with torch.no_grad():
        bare, more = (float(HalfSpace(level=-5.0, empty=empty).prepare(context, stream, None).loss(0))
                      for empty in (0.0, 1.0))
    assert more > bare
    fresh = FrozenTrajectory(grid=4, fresh=True).open(context, REQUEST.prompts, 3, "erase")
    assert HalfSpace().prepare(context, fresh, None).loss(0).requires_grad is False


def test_a_concept_without_an_anchor_is_refused_before_anything_is_computed(model: Any) -> None:
    recipe = Recipe(source=POOL, objective=HalfSpace(), steps=1)
    with pytest.raises(UserError, match="no anchor"):
        recipe.check(model, REQUEST.model_copy(update={"anchor": ""}))
    recipe.check(model, REQUEST)
