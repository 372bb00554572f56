"""Inpainting: holes, what stays and what is the model's, and no credit for what was visible all along."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from expunge.attacks.inpainting import Hole, Inpainting, covered, filled, visible
from expunge.attacks.reference import latents_of
from expunge.attacks.victim import Goal, Item, Victim
from expunge.records import Request


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def owner(victim: Victim) -> Victim:
    return replace(victim, pictures=torch.rand(4, 3, 16, 16, generator=_generator()))


@pytest.mark.parametrize("hole", ["centre", "random"])
@pytest.mark.parametrize("hidden", [0.01, 0.99])
def test_something_is_hidden_and_something_is_shown(hole: Hole, hidden: float) -> None:
    assert 0 < float(visible(hole, (8, 8), hidden, _generator()).mean()) < 1


@pytest.mark.parametrize("hole", ["centre", "half", "random"])
def test_holes_hide_the_share_asked_for(hole: Hole) -> None:
    masks = [visible(hole, (16, 16), 0.5, _generator(seed)) for seed in range(8)]
    assert all(0.4 < float(1 - mask.mean()) < 0.6 for mask in masks)
    assert all(set(mask.unique().tolist()) == {0.0, 1.0} for mask in masks)
    assert all(torch.equal(mask, visible(hole, (16, 16), 0.5, _generator(seed))) for seed, mask in enumerate(masks))
    distinct = {tuple(mask.flatten().tolist()) for mask in masks}
    assert len(distinct) == 1 if hole == "centre" else len(distinct) > 1


def test_covered_pictures_hold_nothing_of_what_is_hidden() -> None:
    pictures = torch.rand(2, 3, 16, 16, generator=_generator())
    masks = torch.stack([visible("half", (8, 8), 0.5, _generator(seed)) for seed in (0, 1)])
    hidden = (1 - masks).repeat_interleave(2, 2).repeat_interleave(2, 3)
    other = pictures * (1 - hidden) + torch.rand(pictures.shape, generator=_generator(1)) * hidden
    assert torch.equal(covered(pictures, masks), covered(other, masks))
    assert torch.equal(covered(pictures, masks) * (1 - hidden), pictures * (1 - hidden))


def test_visible_latents_stay_and_hidden_ones_are_the_models(owner: Victim) -> None:
    assert owner.pictures is not None
    x0 = latents_of(owner.model, owner.pictures[:2])
    known = torch.stack([visible("centre", (8, 8), 0.5, _generator())] * 2)
    eps = torch.randn(x0.shape, generator=_generator())
    a = filled(owner, x0, known, eps, ["a picture of a dog"] * 2, "own")
    b = filled(owner, x0, known, eps.flip(0), ["a picture of a dog"] * 2, "own")
    assert torch.equal(a * known, x0 * known)
    assert float(((a - b) * (1 - known)).abs().max()) > 1e-3


def test_a_picture_whose_visible_part_shows_the_concept_is_never_a_success(owner: Victim, request_: Request,
                                                                           items: list[Item], goal: Goal) -> None:
    always = replace(goal, judge=type(goal.judge)(-1.0))  # type: ignore[call-arg]
    for outcome in Inpainting().outcomes(owner, request_, items, always):
        assert not outcome.found
        assert outcome.spent.images == 0
        assert outcome.note.count("shows the concept already") == 3


def test_successes_are_those_that_the_model_added(owner: Victim, request_: Request, items: list[Item], goal: Goal
                                                  ) -> None:
    assert owner.pictures is not None
    dark = replace(owner, pictures=owner.pictures * 0.2)  # no visible part is bright, whatever the model adds may be
    bright = replace(goal, judge=type(goal.judge)(float(dark.pictures.mean()) * 1.5))  # type: ignore
    outcomes = list(Inpainting(hidden=0.9, holes=("centre",)).outcomes(dark, request_, items, bright))
    assert any(outcome.found for outcome in outcomes)
    assert not any(outcome.error for outcome in outcomes)
    for outcome in outcomes:
        assert outcome.spent.images == 1
        assert outcome.spent.network_rows == 6
        if outcome.found:
            assert outcome.again is not None
            assert outcome.again([1, 2]).shape == (2, 3, 16, 16)


def test_outcomes_do_not_depend_on_batch_or_order(owner: Victim, request_: Request, items: list[Item], goal: Goal
                                                  ) -> None:
    def told(attack: Inpainting, given: list[Item]) -> dict[tuple[str, int], tuple[bool, str]]:
        return {(given[o.row][0].text, given[o.row][1]): (o.found, o.note)
                for o in attack.outcomes(owner, request_, given, goal)}

    assert told(Inpainting(), items) == told(Inpainting(batch=2), items[::-1])
