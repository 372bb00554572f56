"""Noising: the image's trace at every strength, outcomes that belong to items, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from expunge.attacks.noising import Noising, start_point
from expunge.attacks.proposal import Outcome
from expunge.attacks.reference import finish
from expunge.attacks.victim import Goal, Item, Victim
from expunge.errors import UserError
from expunge.records import Request, Sampler


@pytest.fixture
def owner(victim: Victim) -> Victim:
    """A victim attacked with pictures of the user's own."""
    pictures = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return replace(victim, pictures=pictures, sampler=Sampler(steps=6, guidance=2.0))


def _all(attack: Noising, victim: Victim, request_: Request, items: list[Item], goal: Goal
         ) -> dict[tuple[str, int], Outcome]:
    return {(items[o.row][0].text, items[o.row][1]): o for o in attack.outcomes(victim, request_, items, goal)}


def test_every_item_is_settled_once_and_spends_what_it_did(owner: Victim, request_: Request, items: list[Item],
                                                         goal: Goal) -> None:
    attack = Noising(strengths=(0.8, 0.5), words=("empty",))
    outcomes = list(attack.outcomes(owner, request_, items, goal))
    assert sorted(outcome.row for outcome in outcomes) == list(range(len(items)))
    assert not any(outcome.error for outcome in outcomes)
    for outcome in outcomes:
        first = outcome.found and outcome.note.startswith("found at strength 0.8")
        assert outcome.spent.images == (1 if first else 2)
        assert outcome.spent.network_rows == (5 if first else 8)
        assert outcome.spent.images <= attack.budget(owner.sampler).images


def test_outcomes_do_not_depend_on_batch_or_order(owner: Victim, request_: Request, items: list[Item], goal: Goal
                                                  ) -> None:
    whole = _all(Noising(strengths=(0.8, 0.5), words=("empty",)), owner, request_, items, goal)
    parts = _all(Noising(strengths=(0.8, 0.5), words=("empty",), batch=2), owner, request_, items[::-1], goal)
    for name, outcome in whole.items():
        other = parts[name]
        assert (outcome.found, outcome.note) == (other.found, other.note)
        assert outcome.picture is not None
        assert other.picture is not None
        assert torch.allclose(outcome.picture, other.picture, atol=1e-4)


def test_weak_noise_gives_the_picture_back_and_strong_noise_does_not(owner: Victim) -> None:
    victim = replace(owner, sampler=Sampler(steps=20, guidance=2.0))
    x0, eps = victim.model.initial_noise([0, 1]), victim.model.initial_noise([2, 3])

    def off(strength: float) -> float:
        start = start_point(strength, 20)
        x = victim.model.process.noised(x0, eps, victim.model.process.schedule.grid(20)[start].repeat(2))
        return float((finish(victim, x, [""] * 2, "empty", start) - x0).square().mean())

    assert off(0.05) < 0.25 * off(0.95)


def test_again_draws_other_noise_over_the_same_picture(owner: Victim, request_: Request, items: list[Item], goal: Goal
                                                       ) -> None:
    easy = replace(goal, judge=type(goal.judge)(-1.0))  # type: ignore[call-arg]
    outcome = next(iter(Noising(strengths=(0.5,)).outcomes(owner, request_, items, easy)))
    assert outcome.found
    assert outcome.again is not None
    assert outcome.picture is not None
    same, other = outcome.again([items[outcome.row][1], 99])
    assert torch.allclose(same, outcome.picture, atol=1e-4)
    assert not torch.allclose(other, outcome.picture, atol=1e-4)


def test_an_item_without_a_picture_is_failed_not_safe(victim: Victim, request_: Request, items: list[Item], goal: Goal
                                                      ) -> None:
    never = replace(goal, judge=type(goal.judge)(2.0))  # type: ignore[call-arg]
    outcomes = list(Noising().outcomes(victim, request_, items[:2], never))
    assert [outcome.found for outcome in outcomes] == [False, False]
    assert all("no image of the concept" in outcome.error for outcome in outcomes)


@pytest.mark.parametrize("pictures", [torch.empty(0, 3, 16, 16), torch.rand(2, 3, 8, 8), torch.rand(3, 16, 16)])
def test_wrong_pictures_are_refused_before_any_computing(owner: Victim, request_: Request, items: list[Item],
                                                         pictures: torch.Tensor) -> None:
    with pytest.raises(UserError, match="target images"):
        Noising().check(replace(owner, pictures=pictures), request_, items)


def test_a_strength_off_the_grid_is_refused(owner: Victim, request_: Request, items: list[Item]) -> None:
    with pytest.raises(UserError, match=r"strength 0\.01"):
        Noising(strengths=(0.5, 0.01)).check(owner, request_, items)
    with pytest.raises(UserError, match=r"with \d+ sampling steps; accepted: .*; other strengths"):
        Noising(strengths=(0.0001,)).check(owner, request_, items)  # no number of steps would do
