"""Looking ahead to relearning: whose gradient the step takes, that weights come back, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from stepping import stepped
from torch import Tensor
from torch.nn.functional import mse_loss

from expunge.errors import ConfigError, UserError
from expunge.models.store import load
from expunge.records import Request, Target
from expunge.unlearn.context import TrainContext
from expunge.unlearn.keep import MatchTeacher
from expunge.unlearn.lookahead import Lookahead, LookaheadStepper, linear
from expunge.unlearn.noised import NoisedPictures
from expunge.unlearn.objective import Steer, Term
from expunge.unlearn.recipe import Recipe
from expunge.unlearn.source import FrozenTrajectory

REQUEST = Request(concept="church", prompts=("a church on a hill", "a church"), keep=("a picture of a dog",))
POOL = FrozenTrajectory(grid=3, trajectories=3)
KEEP = MatchTeacher(batch=2, source=FrozenTrajectory(grid=3, trajectories=2))
AHEAD = Lookahead(share=1.0, rules=("descent",), rates=(0.05,), lengths=(2,), batch=2,
                  source=NoisedPictures(pictures=2, grid=3))
SMALL = Recipe(source=POOL, steps=4, batch=2, learning_rate=1e-3, keep=KEEP, update=AHEAD)


class AtWork:
    """A stepper on the cross-attention of a model, with the erase loss of ESD and plain descent of rate 1."""

    def __init__(self, model: Any, settings: Lookahead) -> None:
        self.params = model.parameters_in("xattn")
        for p in self.params.values():
            p.requires_grad_(True)
        context = TrainContext(model, model.frozen_copy(), REQUEST, 0, params=self.params)
        erase = Steer().prepare(context, POOL.open(context, REQUEST.prompts, 2, "erase"), None)
        self.erase = lambda: erase.loss(0)
        self.stepper: LookaheadStepper = settings.prepare(self.params, Term(erase.loss), context)
        self.optimizer = torch.optim.SGD(self.params.values(), lr=1.0)

    def gradient(self) -> list[Tensor]:
        return list(torch.autograd.grad(self.erase(), list(self.params.values())))

    def moved(self) -> list[Tensor]:
        before = [p.detach().clone() for p in self.params.values()]
        self.losses = stepped(self.stepper, self.erase, None, self.params, self.optimizer)
        return [was - p.detach() for p, was in zip(self.params.values(), before, strict=True)]


def close(a: list[Tensor], b: list[Tensor]) -> None:
    for one, other in zip(a, b, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-7)


def test_the_step_takes_the_gradient_after_relearning_by_hand(model: Any) -> None:
    work = AtWork(model, AHEAD)
    own = [p.detach().clone() for p in work.params.values()]
    here = work.gradient()
    for turn in range(2):
        points = work.stepper.stream.draw(turn)
        _, eps = points.made_of
        out = model.predict(points.x_t, points.t, model.encode(points.prompts).detach())
        gradients = torch.autograd.grad(mse_loss(out, eps), list(work.params.values()))
        with torch.no_grad():
            for p, g in zip(work.params.values(), gradients, strict=True):
                p.sub_(0.05 * g)
    there, after = work.gradient(), float(work.erase().detach())
    with torch.no_grad():
        for p, value in zip(work.params.values(), own, strict=True):
            p.copy_(value)
    close(work.moved(), there)
    assert work.losses["relearned"] == pytest.approx(after, rel=1e-4)
    assert any(not torch.allclose(a, b, rtol=1e-2) for a, b in zip(here, there, strict=True))


def test_a_share_joins_both(model: Any) -> None:
    steps = {}
    for share in (0.0, 0.25, 1.0):
        work = AtWork(model, AHEAD.model_copy(update={"share": share}))
        work.optimizer = torch.optim.SGD(work.params.values(), lr=0.0)
        work.moved()
        steps[share] = [p.grad.clone() for p in work.params.values() if p.grad is not None]
    close(steps[0.0], AtWork(model, AHEAD).gradient())
    close(steps[0.25], [0.75 * here + 0.25 * there for here, there in zip(steps[0.0], steps[1.0], strict=True)])


def test_what_relearns_differs_from_step_to_step_and_is_the_same_again(
        model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Lookahead(rates=(1e-4, 1e-2), lengths=(1, 3), source=NoisedPictures(pictures=2, grid=3))
    work = AtWork(model, settings)
    points = work.stepper.stream.draw(0)
    monkeypatch.setattr(type(work.stepper.stream), "draw", lambda self, number: points)  # what differs is the way alone
    work.optimizer = torch.optim.SGD(work.params.values(), lr=0.0)
    first = []
    for _ in range(24):
        work.moved()
        first.append(work.losses["relearned"])
    assert len({*first}) == 4  # two rates, two lengths
    work.stepper.done.zero_()
    again = []
    for _ in range(24):
        work.moved()
        again.append(work.losses["relearned"])
    assert again == first


def test_what_is_held_on_to_is_added_as_it_is(model: Any) -> None:
    work = AtWork(model, AHEAD)
    work.optimizer = torch.optim.SGD(work.params.values(), lr=0.0)
    stepped(work.stepper, work.erase, None, work.params, work.optimizer)
    without = [p.grad.clone() for p in work.params.values() if p.grad is not None]
    work.stepper.done.zero_()
    total = lambda: torch.stack([p.sum() for p in work.params.values()]).sum()
    losses = stepped(work.stepper, work.erase, None, work.params, work.optimizer, total)
    close([p.grad - 1 for p in work.params.values() if p.grad is not None], without)
    assert "hold" in losses


def test_a_linear_loss_has_that_value_and_that_gradient() -> None:
    w = torch.nn.Parameter(torch.tensor([3.0, -4.0]))
    loss = linear(2.5, [torch.tensor([1.0, 7.0])], {"w": w})
    assert float(loss) == 2.5
    (gradient,) = torch.autograd.grad(loss, w)
    assert gradient.tolist() == [1.0, 7.0]


@pytest.mark.parametrize("inner", ["plain", "surgery", "bilevel"])
def test_it_goes_around_other_updates_and_says_what_it_saw(model: Any, inner: str) -> None:
    patch = SMALL.override({"update.update": inner, "update.share": 0.5})(model, REQUEST)
    assert patch.tensors
    assert len(patch.card.losses["relearned"]) == 4


def test_on_half_precision_it_moves_masters_and_brings_them_back(pipeline_folder: Path) -> None:
    half = load(pipeline_folder, device="cpu", dtype="bfloat16")
    before = {name: p.detach().clone() for name, p in half.parameters_of("denoiser").items()}
    patch = SMALL(half, REQUEST)
    assert {tensor.dtype for tensor in patch.tensors.values()} == {torch.bfloat16}
    assert all(torch.equal(p, before[name]) for name, p in half.parameters_of("denoiser").items())


def test_images_for_fewer_concepts_than_there_are_are_refused(model: Any) -> None:
    two = REQUEST.model_copy(update={"also": (Target(concept="apple", prompts=("an apple",)),)})
    with pytest.raises(UserError, match=r"a pool of 1 for 2 concepts.*raise update\.source\.pictures"):
        SMALL.override({"update.source.pictures": 1}).check(model, two)


def test_a_keep_in_steps_of_its_own_is_refused(model: Any) -> None:
    with pytest.raises(ConfigError, match="keep in steps of its own"):
        SMALL.override({"keep.cadence": "between"}).check(model, REQUEST)
