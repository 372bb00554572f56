"""Steer's target is the published formula, in any parametrisation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from expunge.models.conditioning import Conditioning
from expunge.records import Request
from expunge.unlearn.anchor import anchored
from expunge.unlearn.context import NoisyBatch, TrainContext
from expunge.unlearn.objective import Steer
from expunge.unlearn.source import FrozenTrajectory

REQUEST = Request(concept="church", prompts=("a church on a hill", "a picture of a church"))
ANCHORED = REQUEST.model_copy(update={"anchor": "house"})


def points_of(model: Any, prompts: tuple[str, ...] = REQUEST.prompts) -> NoisyBatch:
    with torch.no_grad():
        cond = model.encode(prompts)
    return NoisyBatch(model.initial_noise(range(len(prompts))), torch.tensor([800, 300]), prompts, cond)


class AsV:
    """An epsilon model seen through v-prediction: v = sqrt(abar) eps - sqrt(1 - abar) x0."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.encode = model.encode

    def levels(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return self._model.process.levels(t, x)  # type: ignore[no-any-return]

    def predict(self, x_t: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        eps = self._model.predict(x_t, t, cond)
        signal, sigma = self.levels(x_t, t)
        return signal * eps - sigma * (x_t - sigma * eps) / signal

    def picture(self, v: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        signal, sigma = self.levels(x_t, t)
        return signal * x_t - sigma * v


@pytest.mark.parametrize("eta", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("request_", [REQUEST, ANCHORED], ids=["empty base", "anchor"])
@torch.no_grad()
def test_target_is_base_minus_eta_times_the_concepts_direction(model: Any, eta: float, request_: Request) -> None:
    points = points_of(model)
    got = Steer(eta=eta).target(TrainContext(model, model.frozen_copy(), request_, 0), points)
    for i, prompt in enumerate(points.prompts):  # one at a time, by hand
        x, t = points.x_t[i:i + 1], points.t[i:i + 1]
        null, concept = (model.network(x, t, model.encode([text]).states).sample for text in ("", prompt))
        base = null
        if request_.anchor:
            base = model.network(x, t, model.encode([prompt.replace("church", "house")]).states).sample
        torch.testing.assert_close(got[i:i + 1], base - eta * (concept - null), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_the_empty_base_leaves_the_anchor_out(model: Any) -> None:
    points, context = points_of(model), TrainContext(model, model.frozen_copy(), ANCHORED, 0)
    bare = TrainContext(model, model.frozen_copy(), REQUEST, 0)
    assert torch.equal(Steer(base="empty").target(context, points), Steer().target(bare, points))
    assert not torch.equal(Steer().target(context, points), Steer().target(bare, points))


@torch.no_grad()
def test_target_means_the_same_picture_in_eps_and_in_v(model: Any) -> None:
    points, as_v = points_of(model), AsV(model)
    eps = Steer(eta=2.0).target(TrainContext(model, model, REQUEST, 0), points)
    v = Steer(eta=2.0).target(TrainContext(as_v, as_v, REQUEST, 0), points)  # type: ignore[arg-type]
    signal, sigma = as_v.levels(points.x_t, points.t)
    from_eps = (points.x_t - sigma * eps) / signal
    torch.testing.assert_close(as_v.picture(v, points.x_t, points.t), from_eps, rtol=1e-3, atol=1e-3)


def test_loss_is_the_students_distance_to_the_target_with_and_without_a_pool(model: Any) -> None:
    teacher = model.frozen_copy()
    with torch.no_grad():
        for parameter in model.parameters_in("xattn").values():
            parameter.mul_(1.5)
    for fresh in (False, True):
        context, steer = TrainContext(model, teacher, REQUEST, 0), Steer()
        stream = FrozenTrajectory(grid=4, trajectories=2, fresh=fresh).open(context, REQUEST.prompts, 3, "erase")
        term = steer.prepare(context, stream, None)
        points = stream.draw(5)
        with torch.no_grad():
            out = model.predict(points.x_t, points.t, model.encode(points.prompts))
            wanted = (out - steer.target(context, points)).square().mean()
            torch.testing.assert_close(term.loss(5), wanted, rtol=1e-4, atol=1e-6)
            assert wanted > 0


def test_student_is_told_what_the_attacker_found(model: Any) -> None:
    class Attacker:
        state: dict[str, Tensor] = {}  # noqa: RUF012
        optimizers: dict[str, Any] = {}  # noqa: RUF012

        def condition(self, number: int, points: NoisyBatch) -> Conditioning:
            with torch.no_grad():
                return model.encode([f"a dog {number}"] * len(points.t))

        def saw(self, number: int, points: NoisyBatch, out: Tensor) -> None:
            assert out.requires_grad is torch.is_grad_enabled()
            seen.append(number)

    seen: list[int] = []
    context = TrainContext(model, model.frozen_copy(), REQUEST, 0)
    stream = FrozenTrajectory(grid=4, trajectories=2).open(context, REQUEST.prompts, 3, "erase")
    plain, attacked = (Steer().prepare(context, stream, attacker) for attacker in (None, Attacker()))
    with torch.no_grad():
        assert float(plain.loss(1)) != pytest.approx(float(attacked.loss(1)), rel=1e-4)
    assert seen == [1]  # the plain one is shown to nobody


@pytest.mark.parametrize(("prompt", "anchor", "wanted"), [
    ("a flat emoji of a church", "house", "a flat emoji of a house"),
    ("a church on a hill", "apple", "an apple on a hill"),
    ("Church, pixel art", "castle", "castle, pixel art"),
    ("churches", "house", "houses"),
    ("two churches on a hill", "house", "two houses on a hill"),
    ("the church's door", "castle", "the castle's door"),
    ("a\u00a0CHURCH, at sea", "hour", "an hour, at sea"),
    ("a place of worship", "house", "house"),
])
def test_anchor_takes_the_concepts_place(prompt: str, anchor: str, wanted: str) -> None:
    assert anchored(prompt, REQUEST.model_copy(update={"anchor": anchor})) == wanted


def test_steering_away_from_an_anchor_spares_what_both_prompts_ask_for(model: Any) -> None:
    """target = eps(anchor) - eta (eps(concept) - eps(anchor))."""
    request = Request(concept="church", prompts=("a church on a hill",), anchor="house")
    context = TrainContext(model, model.frozen_copy(), request, 0)
    points = FrozenTrajectory(grid=3, trajectories=2).open(context, request.prompts, 2, "erase").draw(0)
    of = {text: model.predict(points.x_t, points.t, model.encode([text]).repeat(2))
          for text in ("a church on a hill", "a house on a hill", "")}
    concept, anchor, empty = of.values()
    away = Steer(away="anchor", eta=0.5)
    torch.testing.assert_close(away.target(context, points), anchor - 0.5 * (concept - anchor))
    torch.testing.assert_close(Steer(eta=0.5).target(context, points), anchor - 0.5 * (concept - empty))
    bare = request.model_copy(update={"anchor": ""})
    alone = TrainContext(model, context.teacher, bare, 0)
    torch.testing.assert_close(away.target(alone, points), empty - 0.5 * (concept - empty))
