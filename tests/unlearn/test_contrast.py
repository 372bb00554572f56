"""The hinge between anchor and concept, against the published difference of squares, and in which directions it pulls.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from expunge.errors import UserError
from expunge.records import Request
from expunge.unlearn.context import TrainContext
from expunge.unlearn.contrast import Contrast, hinge
from expunge.unlearn.recipe import Recipe
from expunge.unlearn.source import FrozenTrajectory

REQUEST = Request(concept="church", prompts=("a church on a hill",), anchor="house")
POOL = FrozenTrajectory(grid=4, trajectories=2)


def random(seed: int) -> Tensor:
    return torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


E, P, Q = random(0), random(1), random(2)
W = 15.0
NEAR, FAR = Q + W * (Q - E), P + W * (P - E)


def test_it_is_the_published_difference_of_squares() -> None:
    """TRCE's max(0, |out - p+|^2 - |out - p-|^2 + m), means over numbers, with the margin and the factor of ours."""
    out, total = E + 0.3 * random(3), 0.0
    for o, near, far, p, q in zip(out, NEAR, FAR, P, Q, strict=True):
        margin = 2 * (1 + W) * 0.1 * float((p - q).square().mean())
        total += max(0.0, float((o - near).square().mean() - (o - far).square().mean()) + margin) / (2 * (1 + W))
    assert total > 0
    assert float(hinge(out, NEAR, FAR, W, 0.1)) == pytest.approx(total / 3, rel=1e-9)


def test_halfway_it_is_nothing_and_a_margin_is_told_in_gaps_between_prompt_and_anchor() -> None:
    halfway = 0.5 * (NEAR + FAR)
    assert float(hinge(halfway, NEAR, FAR, W, 0.0)) == pytest.approx(0.0, abs=1e-9)
    for out in (halfway - 0.2 * (P - Q), NEAR):
        moved = out.clone().requires_grad_(True)
        loss = hinge(moved, NEAR, FAR, W, 0.1)
        (gradient,) = torch.autograd.grad(loss, moved)
        assert not gradient.any()
    assert float(hinge(halfway, NEAR, FAR, W, 0.1)) == pytest.approx(0.1 * float((P - Q).square().mean()))


def test_without_guidance_the_plane_goes_through_the_middle_of_both_predictions() -> None:
    for share, active in ((1.0, True), (0.6, True), (0.4, False), (0.0, False)):
        assert bool(hinge(Q + share * (P - Q), Q, P, 0.0, 0.0) > 1e-9) == active


def test_it_pulls_along_the_gap_alone() -> None:
    out = FAR.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(hinge(out, NEAR, FAR, W, 0.0), out)
    torch.testing.assert_close(gradient, (P - Q) / P[0].numel() / 3)


def test_the_original_by_hand_told_its_prompt_and_nothing(model: Any) -> None:
    context = TrainContext(model, model.frozen_copy(), REQUEST, 0)
    stream = POOL.open(context, REQUEST.prompts, 3, "erase")
    points = stream.draw(0)
    with torch.no_grad():
        e, p, q = (model.predict(points.x_t, points.t, model.encode([text]).repeat(3))
                   for text in ("", "a church on a hill", "a house on a hill"))
        near, far = q + 2 * (q - e), p + 2 * (p - e)
        told = {factor: float(Contrast(beyond=2.0, margin=1.0, empty=factor).prepare(context, stream, None).loss(0))
                for factor in (0.0, 1.0)}
    by_prompt, by_nothing = (float(hinge(out, near, far, 2.0, 1.0)) for out in (p, e))
    assert by_prompt > 0
    assert told[0.0] == pytest.approx(by_prompt, rel=1e-3)
    assert told[1.0] == pytest.approx((by_prompt + by_nothing) / 2, rel=1e-3)


def test_a_concept_without_an_anchor_is_refused_before_anything_is_computed(model: Any) -> None:
    recipe = Recipe(source=POOL, objective=Contrast(), steps=1)
    with pytest.raises(UserError, match="no anchor"):
        recipe.check(model, REQUEST.model_copy(update={"anchor": ""}))
