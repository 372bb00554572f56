"""The integrity keep compares what a sampler would do, along the trajectories that it would take."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from expunge.models.denoising import denoise
from expunge.models.patch import Patch
from expunge.records import Request
from expunge.unlearn.context import TrainContext
from expunge.unlearn.integrity import Integrity
from expunge.unlearn.recipe import Recipe
from expunge.unlearn.source import FrozenTrajectory

REQUEST = Request(concept="church", prompts=("a church on a hill", "a church"), keep=("a house by the sea",))
SOURCE = FrozenTrajectory(grid=4, guidance=3.0, trajectories=4)


def moved(model: Any) -> TrainContext:
    context = TrainContext(model, model.frozen_copy(), REQUEST, 0)
    with torch.no_grad():
        for parameter in model.parameters_in("xattn").values():
            parameter.mul_(1.5)
    return context


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize("branches", ["guided", "both"])
def test_loss_is_the_distance_of_the_guided_prediction_or_of_both_branches(model: Any, branches: Any, fresh: bool
                                                                          ) -> None:
    context, source = moved(model), SOURCE.model_copy(update={"fresh": fresh})
    term = Integrity(weight=2.0, batch=3, branches=branches, source=source).prepare(context)
    points = source.open(context, ("", *REQUEST.keep), 3, "keep").draw(1)
    assert set(points.prompts) <= {"", *REQUEST.keep}
    with torch.no_grad():
        gaps = []
        for cond in (points.cond, model.encode([""] * 3)):
            gaps.append(model.predict(points.x_t, points.t, cond) - context.teacher.predict(points.x_t, points.t, cond))
        of_prompt, of_null = gaps
        wanted = ((of_null + 3.0 * (of_prompt - of_null)).square().mean() if branches == "guided" else
                  (of_prompt.square().mean() + of_null.square().mean()) / 2)
    torch.testing.assert_close(term.loss(1).detach(), 2.0 * wanted, rtol=1e-3, atol=1e-7)
    assert float(wanted) > 1e-4


def test_loss_is_zero_at_the_start(model: Any) -> None:
    term = Integrity(batch=3, source=SOURCE).prepare(TrainContext(model, model.frozen_copy(), REQUEST, 0))
    assert float(term.loss(0).detach()) < 1e-8


def test_its_trajectories_are_the_ones_that_are_drawn(model: Any) -> None:
    """A point of the pool is where DDIM stands on its way from the same noise to the kept prompt's image."""
    context = TrainContext(model, model.frozen_copy(), REQUEST, 0)
    pool = SOURCE.open(context, REQUEST.keep, 3, "keep").pool
    assert pool is not None
    cond, null = model.encode(REQUEST.keep), model.encode([""])
    for k in range(4):
        x = denoise(model, pool.x_t[1, :1], cond, null, 4, 3.0, start=0, stop=k)
        torch.testing.assert_close(pool.x_t[1, k:k + 1], x, rtol=1e-4, atol=1e-4)


def test_a_training_text_encoder_is_asked_anew_for_both_branches(model: Any) -> None:
    context = TrainContext(model, model.frozen_copy(), REQUEST, 0, text_trains=True)
    term = Integrity(batch=2, source=SOURCE).prepare(context)
    params = model.parameters_in("text")
    for parameter in params.values():
        parameter.requires_grad_(True)
    with torch.no_grad():
        for parameter in params.values():
            parameter.mul_(1.2)
    loss = term.loss(0)
    assert float(loss.detach()) > 1e-6
    loss.backward()
    assert all(parameter.grad is not None for parameter in params.values())


def test_it_holds_the_guided_motion_closer_to_the_original(model: Any) -> None:
    recipe = Recipe(source=SOURCE, steps=25, batch=2, learning_rate=1e-4)

    def drift(patch: Patch) -> float:
        with torch.no_grad():
            x, t = model.initial_noise([99, 98]), torch.tensor([700, 300])

            def guided() -> Any:
                c, e = (model.predict(x, t, model.encode([text] * 2)) for text in (*REQUEST.keep, ""))
                return e + 3.0 * (c - e)

            original = guided()
            model.apply(patch)
            edited = guided()
            model.remove()
        return float((edited - original).square().mean())

    keep = Integrity(weight=20.0, batch=4, source=SOURCE)
    assert drift(recipe.model_copy(update={"keep": keep})(model, REQUEST)) < 0.5 * drift(recipe(model, REQUEST))
