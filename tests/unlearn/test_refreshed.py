"""Refresh before another update: off it is that update bit for bit, on it erases and keeps, and it is counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from stepping import NO_MODEL, stepped
from torch import Tensor
from torch.nn import Parameter

import expunge
from expunge.errors import ConfigError, UserError
from expunge.metrics.base import PromptCounts
from expunge.records import FORGET_ROLES, Request, Sampler
from expunge.tiny.emoji import emoji_world
from expunge.unlearn.bilevel import Bilevel
from expunge.unlearn.dual import Dual
from expunge.unlearn.keep import MatchTeacher
from expunge.unlearn.objective import Term
from expunge.unlearn.presets.esd import ESD_FAST
from expunge.unlearn.recipe import Recipe
from expunge.unlearn.refreshed import Refreshed
from expunge.unlearn.saliency import Masked
from expunge.unlearn.source import FrozenTrajectory
from expunge.unlearn.surgery import Surgery
from expunge.unlearn.update import Plain

REQUEST = Request(concept="church", prompts=("a church on a hill", "a church"), keep=("a picture of a dog",))
SMALL = Recipe(source=FrozenTrajectory(grid=3, trajectories=3), steps=5, batch=2, learning_rate=1e-3,
               update=Refreshed(), checkpoint_every=0.0)
KEEP = MatchTeacher(batch=2, source=FrozenTrajectory(grid=3, trajectories=2))
START = torch.tensor([3.0, -4.0])


def same(a: Any, b: Any) -> bool:
    return a.tensors.keys() == b.tensors.keys() and all(torch.equal(a.tensors[n], b.tensors[n]) for n in a.tensors)


def problem() -> tuple[dict[str, Parameter], torch.optim.Optimizer]:
    params = {"w": Parameter(START.clone())}
    return params, torch.optim.SGD(params.values(), lr=0.1)


def term(params: dict[str, Parameter]) -> Term:
    return Term(lambda number: params["w"].square().sum() / 2)


def run(update: Refreshed, steps: int = 1, keep: Any = None) -> tuple[Tensor, list[dict[str, float]]]:
    params, optimizer = problem()
    stepper = update.prepare(params, term(params), NO_MODEL)
    losses = [stepped(stepper, lambda: term(params).loss(0), keep and (lambda: keep(params["w"])), params, optimizer)
              for _ in range(steps)]
    return params["w"].detach(), losses


def test_a_step_climbs_the_loss_to_forget_and_then_descends_from_there() -> None:
    w, losses = run(Refreshed(gamma=0.01))
    torch.testing.assert_close(w, 0.9 * 1.01 * START)  # along w, by 1% of its norm; then one step of w
    assert losses[0]["erase"] == pytest.approx(12.5 * 1.01**2)
    assert losses[0]["refresh"] == pytest.approx(0.01)


def test_only_every_rth_step_is_refreshed() -> None:
    w, losses = run(Refreshed(gamma=0.01, every=3), steps=5)
    assert [round(one["refresh"], 6) for one in losses] == [0.01, 0.0, 0.0, 0.01, 0.0]
    torch.testing.assert_close(w, 0.9**5 * 1.01**2 * START)


def test_full_climbs_the_keep_too_and_forget_does_not() -> None:
    keep = lambda w: 3 * w[0]
    for target, g in (("forget", START), ("full", START + torch.tensor([3.0, 0.0]))):
        up = START + 0.01 * 5.0 * g / g.norm()
        w, _ = run(Refreshed(gamma=0.01, target=target, rise=None), keep=keep)  # type: ignore[arg-type]
        torch.testing.assert_close(w, up - 0.1 * (up + torch.tensor([3.0, 0.0])))


def test_a_rise_beyond_the_cap_is_halved() -> None:
    w, losses = run(Refreshed(gamma=1.0, rise=0.5))  # (1 + s)^2 <= 1.5 from s = 1/8
    assert losses[0]["refresh"] == pytest.approx(1 / 8)
    torch.testing.assert_close(w, 0.9 * 1.125 * START)


def test_norms_say_what_gamma_is_relative_to() -> None:
    g = torch.tensor([1.0, 2.0])  # of the first weight of a, whose norm is 5, and of b, whose norm is 12
    by_tensor = torch.tensor([0.5, 1.2])
    for norm, moved in (("none", 0.1 * g), ("whole", 0.1 * 13.0 * g / 5**0.5), ("tensor", by_tensor)):
        params = {"a": Parameter(torch.tensor([3.0, 4.0])), "b": Parameter(torch.tensor([12.0]))}
        loss = lambda params=params: params["a"][0] + 2 * params["b"].sum()
        update = Refreshed(gamma=0.1, norm=norm, rise=None)  # type: ignore[arg-type]
        stepped(update.prepare(params, Term(lambda number, loss=loss: loss()), NO_MODEL),  # type: ignore[misc]
                loss, None, params, torch.optim.SGD(params.values(), lr=0.0))  # type: ignore[arg-type]
        there = torch.stack([params["a"][0], params["b"][0]]).detach() - torch.tensor([3.0, 12.0])
        torch.testing.assert_close(there, moved)


WRAPPED = [Plain(), Plain(max_grad_norm=0.5), Surgery(), Bilevel(), Masked(share=0.5, draws=1), Dual(),
           Dual(update=Masked(draws=1))]


@pytest.mark.slow
@pytest.mark.parametrize("inner", WRAPPED, ids=repr)
def test_off_it_is_the_wrapped_update_bit_for_bit(model: Any, inner: Any) -> None:
    recipe = SMALL.override({"keep": KEEP.model_dump(mode="json"), "steps": 3})
    plain = recipe.model_copy(update={"update": inner})(model, REQUEST, seed=1)
    for off in (Refreshed(steps=0, update=inner), Refreshed(gamma=0.0, noise=1.0, update=inner)):
        assert same(plain, recipe.model_copy(update={"update": off})(model, REQUEST, seed=1))
    on = recipe.model_copy(update={"update": Refreshed(update=inner)})(model, REQUEST, seed=1)
    assert not same(plain, on)
    assert max(on.card.losses["refresh"]) > 0


@pytest.mark.parametrize("noise", [0.0, 1e-4])
def test_within_a_mask_nothing_else_moves(model: Any, noise: float) -> None:
    original = {name: p.detach().clone() for name, p in model.parameters_in("xattn").items()}
    recipe = SMALL.model_copy(update={"update": Refreshed(noise=noise, every=1, update=Masked(share=0.3, draws=2))})
    patch = recipe(model, REQUEST)
    moved = sum(int((tensor != original[name]).sum()) for name, tensor in patch.tensors.items())
    assert 0.25 < moved / sum(p.numel() for p in original.values()) <= 0.3


class Stop(Exception):
    """What a test throws in the middle of a run."""


@pytest.mark.parametrize("stopped", [2, 3])
def test_stopped_run_goes_on_to_the_same_weights(model: Any, tmp_path: Path, stopped: int) -> None:
    recipe = SMALL.model_copy(update={"update": Refreshed(noise=1e-6, gamma=1e-3, every=2)})
    whole, checkpoint = recipe(model, REQUEST, seed=1), tmp_path / "run.safetensors"

    def stop(done: int, total: int, losses: dict[str, float]) -> None:
        if losses and done == stopped:
            raise Stop

    with pytest.raises(Stop):
        recipe(model, REQUEST, seed=1, checkpoint=checkpoint, progress=stop)
    resumed = recipe(model, REQUEST, seed=1, checkpoint=checkpoint)
    assert same(whole, resumed)
    assert resumed.card.losses == whole.card.losses
    other = recipe.override({"update.seed": 1})(model, REQUEST, seed=1)
    assert not same(whole, other)


@pytest.mark.parametrize(("changes", "target"), [({}, "forget"), ({"rise": None}, "forget"), ({}, "full"),
                                                 ({"steps": 2, "every": 3}, "full"), ({"gamma": 0.0}, "full")])
def test_a_loss_is_asked_for_once_more_by_each_ascent_that_climbs_it(changes: dict[str, Any], target: Any) -> None:
    for inner in (Plain(), Surgery(), Masked(draws=4), *([Dual()] if target == "forget" else [])):
        update = Refreshed(target=target, update=inner, **changes)
        params, optimizer = problem()
        asked = {"erase": 0, "keep": 0}

        def counted(which: str, asked: dict[str, int] = asked, params: dict[str, Parameter] = params) -> Tensor:
            asked[which] += 1
            return params["w"].square().sum() / 2

        stepper = update.prepare(params, Term(lambda number, counted=counted: counted("erase")), NO_MODEL)
        for _ in range(7):
            stepped(stepper, lambda counted=counted: counted("erase"), lambda counted=counted: counted("keep"), params,
                         optimizer)
        ascents = update.steps * sum(map(update.rule.due, range(7)))
        looks = inner.draws if isinstance(inner, Masked) else 0
        assert asked == {"erase": 7 + looks + ascents, "keep": 7 + (ascents if target == "full" else 0)}


def test_mistakes_are_told() -> None:
    between = SMALL.override({"keep": KEEP.model_dump(mode="json"), "keep.cadence": "between"})
    with pytest.raises(ConfigError, match="'refresh' with a keep in steps of its own"):
        between.check(None, REQUEST)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="keep in the step of the erase loss"):  # what the wrapped update needs
        SMALL.override({"update.update": "surgery"}).check(None, REQUEST)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="their plain sum is not what it descends"):
        SMALL.override({"update.update": "dual", "update.target": "full"})
    with pytest.raises(ConfigError, match="known kinds of update"):
        SMALL.override({"update.update": "refresh"})
    with pytest.raises(UserError, match="bfloat16"):
        Refreshed().prepare({"w": Parameter(START.bfloat16())}, Term(lambda number: torch.zeros(())), NO_MODEL)


@pytest.mark.slow
def test_on_the_embedded_model_it_erases_and_keeps() -> None:
    model, world = expunge.load("embedded", device="cpu"), emoji_world()
    request = world.prompts.request("church")
    counts = PromptCounts(direct=0, held_out=6, paraphrase=0, implicit=0, near=0, far=5, style=0, never_seen=0, empty=0)
    prompts = world.prompts.of(request, counts)
    recipe = ESD_FAST.override({"steps": 20, "batch": 4, "learning_rate": 8e-4, "warmup": 4, "source.grid": 8,
                         "source.trajectories": 8, "update": {"kind": "refresh", "update": {"max_grad_norm": 1.0}}})

    def seen() -> tuple[int, int]:
        pictures = expunge.sample(model, [(prompt, 0) for prompt in prompts], Sampler(steps=10), batch=16)
        right = [answer.answers.get("object") == prompt.labels["object"]
                 for answer, prompt in zip(world.judge(request)(pictures), prompts, strict=True)]
        forget = [prompt.role in FORGET_ROLES for prompt in prompts]
        return (sum(yes for yes, mine in zip(right, forget, strict=True) if mine),
                sum(yes for yes, mine in zip(right, forget, strict=True) if not mine))

    before = seen()
    patch = recipe(model, request, seed=0)
    with expunge.applied(model, patch):
        after = seen()
    assert before[0] >= 4
    assert after[0] <= before[0] // 2
    assert before[1] >= 4
    assert after[1] >= before[1] - 1
    refreshes = patch.card.losses["refresh"]
    assert [value > 0 for value in refreshes] == [number % 2 == 0 for number in range(20)]
