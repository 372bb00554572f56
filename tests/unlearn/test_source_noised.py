"""Noised images are the teacher's own, noised as the model's schedule says, never twice the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from expunge.errors import ConfigError, ExpungeError, UserError
from expunge.models.denoising import denoise
from expunge.records import Request, Target
from expunge.train import step_generator
from expunge.unlearn.anchor import AnchorStates
from expunge.unlearn.context import TrainContext
from expunge.unlearn.keep import MatchTeacher
from expunge.unlearn.noised import NoisedPictures
from expunge.unlearn.recipe import Recipe
from expunge.unlearn.source import FrozenTrajectory

REQUEST = Request(concept="church", prompts=("a church on a hill", "a picture of a church"), anchor="house",
                  also=(Target(concept="dog", prompts=("a picture of a dog",), anchor="apple"),))
SMALL = NoisedPictures(pictures=4, grid=3)


def context(model: Any, seed: int = 0, chunk: int = 16) -> TrainContext:
    return TrainContext(model, model.frozen_copy(), REQUEST, seed, chunk=chunk)


@pytest.fixture(params=["epsilon", "v"])
def either(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue("model" if request.param == "epsilon" else "v_model")


@torch.no_grad()
def test_pictures_are_what_the_teacher_draws_for_the_anchor_and_the_student_is_told_the_concept(either: Any) -> None:
    stream = NoisedPictures(of="anchor", pictures=4, grid=3).open(context(either), REQUEST.all_prompts, 8, "erase")
    assert stream.given == ("a church on a hill", "a church on a hill", "a picture of a church", "a picture of a dog")
    assert stream.shown == ("a house on a hill", "a house on a hill", "a picture of a house", "a picture of an apple")
    for i, prompt in enumerate(stream.shown):
        noise = either.initial_noise([step_generator(0, 0, f"erase/pictures/noise/{i}").initial_seed()])
        wanted = denoise(either, noise, either.encode([prompt]), either.encode([""]), 3, 2.0)
        torch.testing.assert_close(stream.latents[i:i + 1], wanted, rtol=1e-4, atol=1e-4)
    points = stream.draw(2)
    torch.testing.assert_close(points.cond.states, either.encode(points.prompts).states, rtol=1e-4, atol=1e-5)
    assert [stream.shown[stream.given.index(prompt)] for prompt in points.prompts] == list(points.shown)
    anchors = AnchorStates.encoded(either, REQUEST).of(points.prompts)
    torch.testing.assert_close(anchors.states, either.encode(points.shown).states, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_x_t_is_the_picture_with_its_own_noise_at_its_own_time(either: Any) -> None:
    stream = SMALL.open(context(either), REQUEST.all_prompts, 6, "erase")
    points = stream.draw(1)
    x0, eps = points.made_of
    s, r = (level.view(-1, 1, 1, 1) for level in either.process.schedule.levels(points.t))
    torch.testing.assert_close(points.x_t, s * x0 + r * eps)
    assert points.shown == ()
    assert points.rows is None
    assert stream.pool is None
    # what the network would have to put out there stands for just that image and that noise
    out = either.process.target(x0, eps, points.t)
    torch.testing.assert_close(either.process.clean(out, points.x_t, points.t), x0, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(either.process.noise_in(out, points.x_t, points.t), eps, rtol=1e-3, atol=1e-3)


def test_draws_belong_to_their_number_and_never_repeat(model: Any) -> None:
    stream = SMALL.open(context(model), REQUEST.all_prompts, 4, "erase")
    assert torch.equal(stream.draw(3).x_t, stream.draw(3).x_t)
    seen = [stream.draw(number) for number in range(40)]
    times = torch.cat([points.t for points in seen])
    assert len(times.unique()) > 130  # of 160 uniform draws from 1000 times about 148 are distinct
    assert 400 < float(times.float().mean()) < 600
    noises = torch.cat([points.eps for points in seen if points.eps is not None])
    assert len(noises.flatten(1)[:, 0].unique()) == 160
    assert {prompt for points in seen for prompt in points.prompts} == set(REQUEST.all_prompts)


def test_chunk_and_count_of_calls(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = (SMALL.open(context(model, chunk=chunk), REQUEST.all_prompts, 2, "e") for chunk in (2, 16))
    torch.testing.assert_close(small.latents, large.latents, rtol=1e-4, atol=1e-4)
    at, samples = context(model), []
    predict = at.teacher.predict
    monkeypatch.setattr(at.teacher, "predict", lambda x, t, c: samples.append(len(x)) or predict(x, t, c))
    for source in (SMALL, SMALL.model_copy(update={"guidance": 1.0})):
        samples.clear()
        source.open(at, REQUEST.all_prompts, 2, "erase").draw(0)
        assert sum(samples) == source.pictures * source.grid * (1 if source.guidance == 1 else 2)


def test_as_a_keep_the_pictures_show_the_prompts_to_keep(model: Any) -> None:
    request = REQUEST.model_copy(update={"keep": ("a house by the sea",)})
    at = TrainContext(model, model.frozen_copy(), request, 0)
    with torch.no_grad():
        for parameter in model.parameters_in("xattn").values():
            parameter.mul_(1.5)
    term = MatchTeacher(batch=3, source=SMALL).prepare(at)
    points = SMALL.open(at, ("", "a house by the sea"), 3, "keep").draw(2)
    with torch.no_grad():
        out, wanted = (one.predict(points.x_t, points.t, points.cond) for one in (model, at.teacher))
        torch.testing.assert_close(term.loss(2), (out - wanted).square().mean(), rtol=1e-3, atol=1e-8)
        assert float(term.loss(2)) > 0


def test_what_does_not_fit_is_told_before_anything_is_computed(model: Any) -> None:
    bare = Request(concept="church", prompts=("a church",), anchor="house",
                   also=(Target(concept="dog", prompts=("a dog",)),))
    calls: list[int] = []
    recipe = Recipe(source=NoisedPictures(of="anchor"), steps=1)
    with pytest.raises(UserError, match="no anchor for 'dog'"):
        recipe(model, bare, progress=lambda *given: calls.append(1))
    wrong = Recipe(keep=MatchTeacher(source=NoisedPictures(of="anchor")))
    with pytest.raises(ConfigError, match=r"keep\.source\.of"):
        wrong(model, REQUEST, progress=lambda *given: calls.append(1))
    assert not calls
    trajectory = FrozenTrajectory(grid=2, trajectories=1).open(context(model), ("a church",), 1, "erase")
    with pytest.raises(ExpungeError, match="noised"):
        _ = trajectory.draw(0).made_of
