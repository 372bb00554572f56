"""Wrong labels and noise as targets: what they are, from whom they come, and what a request must have for them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from expunge.errors import UserError
from expunge.models.patch import Patch
from expunge.records import Request, Target
from expunge.train import step_generator
from expunge.unlearn.anchor import anchor_predictor
from expunge.unlearn.context import TrainContext
from expunge.unlearn.keep import MatchTeacher
from expunge.unlearn.noised import NoisedPictures
from expunge.unlearn.recipe import Recipe
from expunge.unlearn.relabel import Noise, Relabel, WrongPrompts
from expunge.unlearn.retain import Retain
from expunge.unlearn.source import FrozenTrajectory

KEEP = ("a picture of a dog", "the knife of a chef", "an apple")
REQUEST = Request(concept="church", prompts=("a church on a hill", "a church"), keep=KEEP)
ANCHORED = REQUEST.model_copy(update={"anchor": "house"})
TRAJECTORIES = FrozenTrajectory(grid=3, trajectories=2)


def context_of(model: Any, request: Request = REQUEST, moved: bool = True, **more: Any) -> TrainContext:
    """A student that has moved away from its teacher."""
    context = TrainContext(model, model.frozen_copy(), request, 0, **more)
    if moved:
        with torch.no_grad():
            for parameter in model.parameters_in("xattn").values():
                parameter.mul_(1.5)
    return context


@pytest.mark.slow
def test_the_wrong_prompt_is_the_anchors_where_there_is_one_and_a_kept_one_elsewhere(model: Any) -> None:
    both = REQUEST.model_copy(update={"also": (Target(concept="hospital", prompts=("a hospital",), anchor="castle"),)})
    wrong = WrongPrompts(context_of(model, both))
    drawn = [wrong.of(("a church", "a hospital"), number) for number in range(40)]
    assert {second for _, second in drawn} == {"a castle"}
    assert {first for first, _ in drawn} == set(KEEP)
    assert drawn[3] == wrong.of(("a church", "a hospital"), 3)
    anchored = WrongPrompts(context_of(model, ANCHORED))
    assert anchored.of(("a church on a hill", "a church"), 0) == ("a house on a hill", "a house")


@pytest.mark.parametrize("by", ["student", "teacher"])
@pytest.mark.parametrize("request_", [REQUEST, ANCHORED], ids=["kept prompts", "anchor"])
def test_loss_is_the_distance_to_what_the_wrong_prompt_brings(model: Any, by: Any, request_: Request) -> None:
    context = context_of(model, request_)
    stream = TRAJECTORIES.open(context, REQUEST.prompts, 3, "erase")
    points, term = stream.draw(5), Relabel(by=by).prepare(context, stream, None)
    told = WrongPrompts(context).of(points.prompts, 5)
    who = model if by == "student" else context.teacher
    with torch.no_grad():
        wanted = torch.cat([who.predict(points.x_t[i:i + 1], points.t[i:i + 1], who.encode([text]))
                            for i, text in enumerate(told)])
        out = model.predict(points.x_t, points.t, points.cond)
    torch.testing.assert_close(term.loss(5).detach(), (out - wanted).square().mean(), rtol=1e-3, atol=1e-6)


def test_no_gradient_flows_through_the_wrong_prompts_prediction(model: Any) -> None:
    context = context_of(model, ANCHORED)
    stream = TRAJECTORIES.open(context, ("a church",), 2, "erase")
    points = stream.draw(0)
    params = list(model.parameters_in("xattn").values())
    for parameter in params:
        parameter.requires_grad_(True)
    got = torch.autograd.grad(Relabel().prepare(context, stream, None).loss(0), params)
    with torch.no_grad():
        fixed = model.predict(points.x_t, points.t, model.encode(["a house"] * 2))
    want = torch.autograd.grad((model.predict(points.x_t, points.t, points.cond) - fixed).square().mean(), params)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-7)


def test_a_training_text_encoder_is_asked_for_the_wrong_prompt_as_it_is_now(model: Any) -> None:
    context = context_of(model, ANCHORED, moved=False, text_trains=True)
    stream = TRAJECTORIES.open(context, ("a church",), 2, "erase")
    points = stream.draw(0)
    with torch.no_grad():
        for parameter in model.parameters_in("text").values():
            parameter.mul_(1.2)
        wanted = model.predict(points.x_t, points.t, model.encode(["a house"] * 2))
        torch.testing.assert_close(WrongPrompts(context).predict("student", points, 0), wanted, rtol=1e-4, atol=1e-5)
        theirs = context.teacher.predict(points.x_t, points.t, context.teacher.encode(["a house"] * 2))
        torch.testing.assert_close(WrongPrompts(context).predict("teacher", points, 0), theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("noise", "draw"), [("uniform", torch.rand), ("normal", torch.randn)])
def test_noise_is_drawn_anew_in_every_step_and_belongs_to_the_step(model: Any, noise: Any, draw: Any) -> None:
    context = context_of(model)
    stream = NoisedPictures(pictures=2, grid=2).open(context, REQUEST.prompts, 3, "erase")
    term = Noise(noise=noise).prepare(context, stream, None)
    for number in (0, 4):
        points = stream.draw(number)
        n = draw(points.x_t.shape, generator=step_generator(0, number, "erase/noise"))
        with torch.no_grad():
            wanted = (model.predict(points.x_t, points.t, points.cond) - n).square().mean()
        torch.testing.assert_close(term.loss(number).detach(), wanted, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(term.loss(number), term.loss(number))


def test_student_is_told_what_the_attacker_found(model: Any) -> None:
    class Attacker:
        state: dict[str, Tensor] = {}  # noqa: RUF012
        optimizers: dict[str, Any] = {}  # noqa: RUF012

        def condition(self, number: int, points: Any) -> Any:
            return points.cond.with_states(points.cond.states + 1)

        def saw(self, number: int, points: Any, out: Tensor) -> None:
            pass

    context = context_of(model)
    stream = TRAJECTORIES.open(context, REQUEST.prompts, 2, "erase")
    for objective in (Relabel(), Noise()):
        plain, attacked = (objective.prepare(context, stream, who) for who in (None, Attacker()))  # type: ignore[attr-defined]
        assert float(plain.loss(0)) != pytest.approx(float(attacked.loss(0)), rel=1e-4)


def test_a_concept_that_nothing_else_can_stand_for_is_refused_before_anything_is_computed(model: Any) -> None:
    recipe = Recipe(source=TRAJECTORIES, objective=Relabel(), steps=1)
    with pytest.raises(UserError, match="or prompts to keep"):
        recipe.check(model, Request(concept="church", prompts=("a church",)))
    recipe.check(model, Request(concept="church", prompts=("a church",), anchor="house"))
    recipe.check(model, REQUEST)
    made = recipe.model_copy(update={"keep": MatchTeacher(), "retain": Retain(things=("dog",), each=1)})
    made.check(model, Request(concept="church", prompts=("a church",)))  # made prompts will do


def test_a_student_with_a_text_encoder_of_its_own_is_asked_in_its_own_words(model: Any) -> None:
    """As in a sequence, where an earlier request edited the text encoder and the teacher is the original."""
    moved = {name: 1.5 * p.detach() for name, p in model.parameters_in("text").items() if "k_proj.weight" in name}
    student = model.edited(Patch.of(moved, model=model, request=REQUEST, method="none", settings={}, seed=0))
    context = TrainContext(student, model, ANCHORED, 0)
    points = TRAJECTORIES.open(context, ANCHORED.prompts, 3, "erase").draw(5)
    wrong = WrongPrompts(context)
    texts = wrong.of(points.prompts, 5)

    def predicted(who: Any, words: Any) -> Tensor:
        with torch.no_grad():
            return torch.cat([who.predict(points.x_t[i:i + 1], points.t[i:i + 1], words.encode([text]))
                              for i, text in enumerate(texts)])

    for who, own in (("student", student), ("teacher", model)):
        torch.testing.assert_close(wrong.predict(who, points, 5), predicted(own, own))  # type: ignore[arg-type]
    torch.testing.assert_close(anchor_predictor(context, "student")(points), predicted(student, student))
    torch.testing.assert_close(anchor_predictor(context, "frozen")(points), predicted(model, model))
    assert not torch.allclose(predicted(student, student), predicted(student, model))
