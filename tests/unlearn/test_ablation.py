"""Concept Ablation regresses to the anchor's prediction at one and the same x_t, or to the noise."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from expunge.errors import ConfigError, UserError
from expunge.records import Request, Target
from expunge.unlearn.ablation import Ablate
from expunge.unlearn.context import TrainContext
from expunge.unlearn.denoise import Denoise
from expunge.unlearn.noised import NoisedPictures
from expunge.unlearn.presets.ablation import ABLATION, ABLATION_FAST
from expunge.unlearn.source import FrozenTrajectory

REQUEST = Request(concept="church", prompts=("a church on a hill", "a picture of a church"), anchor="house",
                  keep=("a picture of a dog",),
                  also=(Target(concept="castle", prompts=("a castle and a hospital",), anchor="apple"),))
ANCHOR_OF = {"a church on a hill": "a house on a hill", "a picture of a church": "a picture of a house",
             "a castle and a hospital": "an apple and a hospital"}
PICTURES = NoisedPictures(of="anchor", pictures=3, grid=2)


@pytest.fixture(params=["epsilon", "v"])
def either(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue("model" if request.param == "epsilon" else "v_model")


def moved(model: Any) -> TrainContext:
    """A context whose student is no longer the teacher."""
    context = TrainContext(model, model.frozen_copy(), REQUEST, 0)
    with torch.no_grad():
        for parameter in model.parameters_in("xattn").values():
            parameter.mul_(1.5)
    return context


@torch.no_grad()
@pytest.mark.parametrize("who", ["frozen", "student"])
@pytest.mark.parametrize("source", [PICTURES, FrozenTrajectory(grid=3, trajectories=3)], ids=["pictures", "pool"])
def test_loss_is_the_gap_to_the_anchors_prediction_at_the_same_point(either: Any, who: Any, source: Any) -> None:
    context = moved(either)
    stream = source.open(context, REQUEST.all_prompts, 4, "erase")
    term = Ablate(anchor_model=who).prepare(context, stream, None)
    points, anchor_model = stream.draw(5), context.teacher if who == "frozen" else context.student
    gaps = []
    for i, prompt in enumerate(points.prompts):  # one at a time, by the network itself
        x, t = points.x_t[i:i + 1], points.t[i:i + 1]
        out = context.student.network(x, t, either.encode([prompt]).states).sample
        wanted = anchor_model.network(x, t, either.encode([ANCHOR_OF[prompt]]).states).sample
        gaps.append((out - wanted).square().mean())
    torch.testing.assert_close(term.loss(5), torch.stack(gaps).mean(), rtol=1e-3, atol=1e-7)
    assert float(term.loss(5)) > 0


def test_gradient_reaches_the_concepts_side_alone(model: Any) -> None:
    context = moved(model)
    stream = PICTURES.open(context, REQUEST.all_prompts, 3, "erase")
    params = list(model.parameters_in("xattn.kv").values())
    for p in params:
        p.requires_grad_(True)
    points = stream.draw(0)
    got = torch.autograd.grad(Ablate(anchor_model="student").prepare(context, stream, None).loss(0), params)
    out = model.predict(points.x_t, points.t, points.cond)
    anchors = model.encode([ANCHOR_OF[prompt] for prompt in points.prompts])
    wanted = model.predict(points.x_t, points.t, anchors).detach()
    for a, b in zip(got, torch.autograd.grad((out - wanted).square().mean(), params), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-7)


@torch.no_grad()
def test_noise_form_and_denoising_keep_regress_to_what_the_network_is_trained_for(either: Any) -> None:
    context = moved(either)
    stream = PICTURES.open(context, REQUEST.all_prompts, 4, "erase")
    points = stream.draw(1)
    x0, eps = points.made_of
    abar = either.process.schedule.levels(points.t)[0].square().view(-1, 1, 1, 1)
    wanted = eps if either.process.prediction == "epsilon" else abar.sqrt() * eps - (1 - abar).sqrt() * x0
    out = either.predict(points.x_t, points.t, either.encode(points.prompts))
    term = Ablate(towards="noise").prepare(context, stream, None)
    torch.testing.assert_close(term.loss(1), (out - wanted).square().mean(), rtol=1e-3, atol=1e-6)
    for on, prompts in (("anchor", set(ANCHOR_OF.values())), ("keep", {"", "a picture of a dog"})):
        keep = Denoise(on=on, weight=0.5, batch=4, source=NoisedPictures(pictures=3, grid=2))  # type: ignore[arg-type]
        kept = keep.source.open(context, sorted(prompts), 8, "keep").draw(0)
        assert set(kept.prompts) == prompts
        assert float(keep.prepare(context).loss(1)) > 0
    points = Denoise(source=PICTURES).source.open(context, ("",), 1, "x").draw(0)
    assert points.prompts == ("",)


def test_training_takes_every_concept_towards_its_anchor(model: Any) -> None:
    recipe = ABLATION_FAST.override({"steps": 24, "batch": 4, "learning_rate": 5e-3, "warmup": 0,
                                     "source": {"pictures": 3, "grid": 2}, "keep": None, "retain": None})
    patch = recipe(model, REQUEST)
    context = TrainContext(model, model.frozen_copy(), REQUEST, 0)
    term = Ablate().prepare(context, PICTURES.open(context, REQUEST.all_prompts, 16, "new"), None)
    with torch.no_grad():
        before = float(term.loss(0))
        model.apply(patch)
        after = float(term.loss(0))
    assert after < 0.7 * before


def test_needs_are_told_before_anything_is_computed(model: Any) -> None:
    bare = REQUEST.model_copy(update={"anchor": "", "also": ()})
    for recipe in (ABLATION, ABLATION.override({"source": "frozen"}),
                   ABLATION.override({"keep": "denoise", "keep.on": "anchor"})):
        with pytest.raises(UserError, match="anchor"):
            recipe.check(model, bare)
    with pytest.raises(ConfigError, match="noised"):
        ABLATION.override({"source": "frozen", "objective.towards": "noise"}).check(model, REQUEST)


def test_published_numbers() -> None:
    recipe = ABLATION
    assert (recipe.scope, recipe.steps, recipe.batch, recipe.learning_rate) == ("xattn.kv", 100, 8, 8 * 2e-6)
    assert recipe.objective.anchor_model == "student"
    assert recipe.source.pictures == 1000
