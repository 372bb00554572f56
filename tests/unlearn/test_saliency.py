"""A mask confines an update to the weights that matter; the others come out bit for bit, whatever the optimizer."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch
from stepping import NO_MODEL, stepped
from torch import Tensor
from torch.nn import Parameter

from expunge.errors import ConfigError, TrainingError
from expunge.records import Request
from expunge.unlearn.adversary import SoftAdversary
from expunge.unlearn.bilevel import Bilevel
from expunge.unlearn.change import whole
from expunge.unlearn.context import TrainContext
from expunge.unlearn.denoise import Denoise
from expunge.unlearn.domain import AlignDomains
from expunge.unlearn.keep import MatchTeacher
from expunge.unlearn.noised import NoisedPictures
from expunge.unlearn.objective import Steer, Term
from expunge.unlearn.recipe import Recipe
from expunge.unlearn.relabel import Relabel
from expunge.unlearn.saliency import Masked, summed_gradients, top_entries
from expunge.unlearn.source import FrozenTrajectory
from expunge.unlearn.surgery import Surgery
from expunge.unlearn.update import Plain

REQUEST = Request(concept="church", prompts=("a church on a hill", "a church"), keep=("a picture of a dog",))
SMALL = Recipe(source=FrozenTrajectory(grid=3, trajectories=3), steps=4, batch=2, learning_rate=1e-2, weight_decay=0.1,
               update=Masked(share=0.3, draws=2))


def weights() -> dict[str, Parameter]:
    generator = torch.Generator().manual_seed(1)
    return {"a": Parameter(torch.randn(6, 5, generator=generator)), "b": Parameter(torch.randn(7, generator=generator))}


def quadratic(params: dict[str, Parameter]) -> Term:
    """A loss whose gradient is known: of step n, the gradient of p is (1 + n) p."""
    return Term(lambda number: (1 + number) * sum((p.square().sum() / 2 for p in params.values()), torch.zeros(())))


def test_looking_for_the_mask_neither_attacks_nor_teaches(model: Any) -> None:
    request = REQUEST.model_copy(update={"anchor": "house"})
    context = TrainContext(model, model.frozen_copy(), request, 0, text_trains=True)
    params = model.parameters_in("text")
    with whole(model, params):
        stream = FrozenTrajectory(grid=3, trajectories=3).open(context, REQUEST.prompts, 2, "erase")
        attacker = SoftAdversary(steps=1, warmup=2).prepare(context, stream, 2)
        game = AlignDomains(warm_up=1).prepare(context, stream, None)
        Masked(draws=4).prepare(params, game, context)
        warmed = AlignDomains(warm_up=1).prepare(context, stream, None)
        warmed.loss(0)
        assert all(torch.equal(tensor, game.state[name]) for name, tensor in warmed.state.items()), \
            "no round beside those of the warm-up"
        Masked(draws=4).prepare(params, Steer().prepare(context, stream, attacker), context)
        assert not attacker.state["adversary/found"].any()


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 1.0])
def test_mask_is_the_share_of_largest_gradients_over_all_tensors_together(share: float) -> None:
    params = weights()
    scores = {name: p.detach() for name, p in params.items()}
    flat = np.concatenate([score.abs().numpy().ravel() for score in scores.values()])
    chosen = np.zeros(flat.size, dtype=bool)
    chosen[np.argsort(-flat)[:round(share * flat.size)]] = True
    masks = top_entries(scores, share)
    np.testing.assert_array_equal(np.concatenate([mask.numpy().ravel() for mask in masks.values()]), chosen)
    assert all(mask.dtype == torch.bool for mask in masks.values())


def test_gradients_are_summed_with_their_signs_over_the_first_steps() -> None:
    params = weights()
    got = summed_gradients(quadratic(params).loss, params, range(3))
    for name, p in params.items():
        torch.testing.assert_close(got[name], (1 + 2 + 3) * p.detach())
    opposite = summed_gradients(lambda number: (-1) ** number * params["a"].sum(), params, range(2))
    assert not any(bool(tensor.any()) for tensor in opposite.values())
    assert all(p.grad is None for p in params.values())


def test_a_gradient_that_chooses_nothing_or_is_not_finite_is_an_error() -> None:
    with pytest.raises(TrainingError, match="holds none"):
        top_entries({"a": torch.zeros(5)}, 0.5)
    with pytest.raises(TrainingError, match="not finite"):
        top_entries({"a": torch.tensor([1.0, float("nan")])}, 0.5)


@pytest.mark.parametrize("inner", [Plain(), Plain(max_grad_norm=0.1), Surgery(),
                                   Surgery(block="global", max_grad_norm=0.5), Bilevel(weight=2.0)], ids=repr)
def test_what_is_not_in_the_mask_stays_bit_for_bit_under_decay_and_momentum(inner: Any) -> None:
    params = weights()
    before = {name: p.detach().clone() for name, p in params.items()}
    stepper = Masked(share=0.4, draws=1, update=inner).prepare(params, quadratic(params), NO_MODEL)
    optimizer = torch.optim.AdamW(params.values(), lr=0.1, weight_decay=0.5)
    for _ in range(5):
        stepped(stepper, lambda: quadratic(params).loss(0), lambda: sum(p.sum() for p in params.values()) - 1.0, params,
                     optimizer)
    for name, p in params.items():
        inside = stepper.masks[name]
        assert torch.equal(p[~inside], before[name][~inside])
        assert bool((p != before[name])[inside].all())
        moments = optimizer.state[p]["exp_avg"]
        assert not bool(moments[~inside].any())


@pytest.mark.parametrize("inner", [Plain(max_grad_norm=1.0), Surgery()], ids=repr)
def test_clipping_and_surgery_see_the_masked_gradients_alone(inner: Any) -> None:
    salient = Term(lambda number: (whole["w"] * torch.tensor([9.0, 8.0, 0.1, 0.1])).sum())
    whole = {"w": Parameter(torch.tensor([1.0, 2.0, 3.0, 4.0]))}
    alone = {"w": Parameter(torch.tensor([1.0, 2.0]))}  # the same problem without the masked entries
    pull = torch.tensor([1.0, 2.0, 30.0, 40.0])

    def step(stepper: Any, params: dict[str, Parameter]) -> None:
        w = params["w"]
        stepped(stepper, lambda: w.square().sum(), lambda: -(w * pull[:len(w)]).sum(), params,
                     torch.optim.SGD(params.values(), lr=1.0))

    step(Masked(share=0.5, draws=1, update=inner).prepare(whole, salient, NO_MODEL), whole)
    step(inner.prepare(alone, salient, NO_MODEL), alone)
    torch.testing.assert_close(whole["w"][:2], alone["w"])


def test_hooks_are_gone_after_a_step_and_after_an_error() -> None:
    params = weights()
    stepper = Masked(share=0.5, draws=1).prepare(params, quadratic(params), NO_MODEL)
    optimizer = torch.optim.SGD(params.values(), lr=0.1)

    def fail() -> Tensor:
        raise ValueError

    for erase in (lambda: quadratic(params).loss(0), fail):
        with suppress(ValueError):
            stepped(stepper, erase, None, params, optimizer)
        (grad,) = torch.autograd.grad(params["b"].sum(), params["b"])
        assert bool((grad == 1).all())


@pytest.mark.parametrize("changes", [
    {}, {"update.update": "surgery", "keep": "match", "keep.source.grid": 3, "keep.source.trajectories": 2},
    {"keep": "match", "keep.cadence": "between", "keep.source.grid": 3, "keep.source.trajectories": 2},
], ids=["alone", "surgery", "keep between"])
def test_patch_of_a_masked_recipe_changes_no_more_than_the_share(model: Any, changes: dict[str, Any]) -> None:
    recipe = SMALL.override(changes)
    original = {name: p.detach().clone() for name, p in model.parameters_in("xattn").items()}
    patch = recipe(model, REQUEST, seed=2)
    moved = sum(int((tensor != original[name]).sum()) for name, tensor in patch.tensors.items())
    share = moved / sum(p.numel() for p in original.values())
    assert 0.29 < share <= 0.3
    unmasked = recipe.override({"update": "plain"})(model, REQUEST, seed=2)
    assert sum(int((tensor != original[name]).sum()) for name, tensor in unmasked.tensors.items()) > 2 * moved


def test_a_mask_of_everything_is_the_wrapped_update_itself(model: Any) -> None:
    masked = SMALL.override({"update.share": 1.0, "update.update.max_grad_norm": 1.0})
    plain = SMALL.override({"update": {"kind": "plain", "max_grad_norm": 1.0}})
    one, other = masked(model, REQUEST), plain(model, REQUEST)
    biases = [name for name in one.tensors if not torch.equal(one.tensors[name], other.tensors[name])]
    assert not biases


def test_relabel_chooses_by_the_denoising_loss_under_guidance(model: Any) -> None:
    """The published mask: gradient of |(1 + g) out(c) - g out("") - what the network was trained for|^2."""
    context, relabel = TrainContext(model, model.frozen_copy(), REQUEST, 0), Relabel(guidance=2.5)
    stream = NoisedPictures(pictures=2, grid=2).open(context, REQUEST.prompts, 2, "erase")
    points = stream.draw(1)
    term = relabel.prepare(context, stream, None)
    assert term.saliency is not None
    with torch.no_grad():
        null = model.encode([""]).repeat(2)
        c, e = (model.predict(points.x_t, points.t, cond) for cond in (points.cond, null))
        by_hand = (3.5 * c - 2.5 * e - points.eps).square().mean()  # an epsilon model
        torch.testing.assert_close(term.saliency(1), by_hand, rtol=1e-4, atol=1e-6)
        assert float(term.loss(1)) != pytest.approx(float(by_hand), rel=1e-2)
    trajectories = FrozenTrajectory(grid=3, trajectories=2).open(context, REQUEST.prompts, 2, "erase")
    term = relabel.prepare(context, trajectories, None)
    assert term.saliency is not None
    torch.testing.assert_close(term.saliency(0), term.loss(0))


def test_masks_do_not_nest_and_shares_have_limits() -> None:
    with pytest.raises(ConfigError, match="known kinds of update"):
        SMALL.override({"update.update": "masked"})
    for share in (0.0, 1.1):
        with pytest.raises(ConfigError, match=r"update\.share"):
            SMALL.override({"update.share": share})
    recipe = SMALL.override({"update.update": "surgery"})
    with pytest.raises(ConfigError, match="keep"):  # what the wrapped update needs is looked for too
        recipe.check(None, REQUEST)  # type: ignore[arg-type]


def test_settings_round_trip_through_json() -> None:
    recipe = Recipe(objective=Steer(), keep=Denoise(), update=Masked(share=0.2, update=Surgery(block="global")))
    assert Recipe.build(recipe.model_dump(mode="json")) == recipe
    assert Recipe(keep=MatchTeacher()).override({"update": "masked"}).update == Masked()
