"""Random prefixes and fresh seeds: what is asked, where it stops, what is counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from expunge.attacks.base import Attack
from expunge.attacks.proposal import Batch, Candidate, Outcome, Rounds
from expunge.attacks.search import RandomPrompt, SeedSearch
from expunge.attacks.victim import Goal, Item, Victim
from expunge.errors import UserError
from expunge.metrics.base import Aim
from expunge.records import Prompt, Request


def settled(attack: Attack, victim: Victim, request: Request, items: Sequence[Item], goal: Goal
            ) -> dict[Item, tuple[object, ...]]:
    """What must not depend on the batch, by item."""
    out = {}
    for outcome in attack.outcomes(victim, request, items, goal):
        spent = outcome.spent.model_dump(exclude={"seconds"})
        prompt, seed = items[outcome.row]
        out[prompt.text, seed] = (outcome.found, outcome.text, outcome.ids, outcome.note, outcome.error, spent)
    return out


@pytest.mark.parametrize("attack", [RandomPrompt(tries=3), SeedSearch(tries=4)], ids=lambda attack: attack.name)
def test_outcomes_depend_neither_on_batch_nor_on_order(attack: Attack, victim: Victim, request_: Request,
                                                       items: list[Item], goal: Goal) -> None:
    whole = settled(attack, victim, request_, items, goal)
    assert len({found for found, *_ in whole.values()}) == 2 or all(found for found, *_ in whole.values())
    for batch in (1, 4):
        other = attack.model_copy(update={"batch": batch})
        assert settled(other, victim, request_, items[::-1], goal) == whole


def test_counts_stop_at_the_first_success(victim: Victim, request_: Request, goal: Goal) -> None:
    item = (Prompt(text="a house by the sea", role="direct"), 0)
    seen = [sight.found for sight in goal.see(victim.draw([item[0].text] * 12, [*range(12)]))]
    assert True in seen[1:]
    first, seen = seen.index(False), seen[seen.index(False):]

    class FromSeed(SeedSearch):
        def propose(self, batch: Batch) -> Rounds:
            return batch.in_turn([[Candidate(0, seed=seed) for seed in range(first, 12)]])

    [outcome] = FromSeed().outcomes(victim, request_, [item], goal)
    assert outcome.found
    assert outcome.spent.images == seen.index(True) + 1
    assert outcome.spent.network_rows == outcome.spent.images * victim.rows_per_picture


def test_all_tries_are_counted_when_none_succeeds(victim: Victim, request_: Request, items: list[Item], goal: Goal
                                                  ) -> None:
    never = replace(goal, aim=Aim("brighter still", "light"))
    for outcome in SeedSearch(tries=5, batch=4).outcomes(victim, request_, items, never):
        assert not outcome.found
        assert outcome.spent.images == 5
        assert outcome.picture is not None


def test_a_judge_that_fails_makes_no_success(victim: Victim, request_: Request, items: list[Item], goal: Goal) -> None:
    class Blind:
        name, questions = goal.judge.name, goal.judge.questions

        def __call__(self, pictures: torch.Tensor) -> list[object]:
            return list(goal.judge(torch.zeros_like(pictures)))

    for outcome in SeedSearch(tries=3).outcomes(victim, request_, items, replace(goal, judge=Blind())):
        assert not outcome.found
        assert outcome.error == "an image of one colour"
        assert outcome.spent.images == 1


def test_a_found_seed_is_shifted_with_the_items(victim: Victim, request_: Request, items: list[Item], goal: Goal
                                                ) -> None:
    found = [outcome for outcome in SeedSearch(tries=8).outcomes(victim, request_, items, goal) if outcome.found]
    for outcome in found:
        own = items[outcome.row][1]
        assert outcome.again is not None
        same, other = outcome.again([own, own + 1])
        torch.testing.assert_close(same, outcome.picture, atol=1e-5, rtol=0)
        assert (other - same).abs().max() > 1e-3
        seed = int(outcome.note.removeprefix("at seed "))
        torch.testing.assert_close(other, victim.draw([items[outcome.row][0].text], [seed + 1])[0], atol=1e-5, rtol=0)
    assert found


def test_random_prompts_read_back_as_they_were_drawn(victim: Victim, request_: Request, items: list[Item], goal: Goal
                                                     ) -> None:
    attack = RandomPrompt(tries=6, tokens=2)
    outcomes: list[Outcome] = [o for o in attack.outcomes(victim, request_, items, goal) if o.found]
    assert outcomes
    for outcome in outcomes:
        prompt, seed = items[outcome.row]
        assert outcome.text.endswith(prompt.text)
        assert outcome.ids == tuple(victim.model.texts[0].tokens(outcome.text))
        assert len(outcome.ids) == 2 + len(victim.model.texts[0].tokens(prompt.text))
        torch.testing.assert_close(outcome.picture, victim.draw([outcome.text], [seed])[0], atol=1e-5, rtol=0)


def test_a_prompt_without_room_for_the_prefix_is_refused(victim: Victim, request_: Request, items: list[Item]) -> None:
    room = victim.model.texts[0].room - max(len(victim.model.texts[0].tokens(prompt.text)) for prompt, _ in items)
    RandomPrompt(tokens=room).check(victim, request_, items)
    with pytest.raises(UserError, match="shorten the prompt"):
        RandomPrompt(tokens=victim.model.texts[0].room).check(victim, request_, items)
