"""An item whose prompt leaves an attack no room fails by itself; the others are attacked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from expunge.attacks.base import NO_ROOM, Attack
from expunge.attacks.fixed import Paraphrase
from expunge.attacks.p4d import P4D
from expunge.attacks.ringabell import RingABell
from expunge.attacks.scores import suite_scores
from expunge.attacks.search import RandomPrompt
from expunge.attacks.soft import SoftPrompt
from expunge.attacks.trial import attempts, plain
from expunge.attacks.unlearndiff import UnlearnDiff
from expunge.attacks.victim import Goal, Item, Victim
from expunge.errors import UserError
from expunge.metrics.base import Aim
from expunge.records import AttackRun, Prompt, Request, Spent

LONG: Item = (Prompt(text=" ".join(["church"] * 13), role="direct"), 0)
"""One token less than the test text encoder reads."""
NEEDY: list[Attack] = [
    RandomPrompt(tries=1), UnlearnDiff(timesteps=1, iterations=1, rows=1), P4D(form="k", steps=1, look_every=1, rows=1),
    SoftPrompt(steps=1, looks=1, rows=1)]


@pytest.mark.parametrize("attack", NEEDY, ids=lambda attack: attack.name)
def test_the_item_without_room_alone_fails_and_is_counted_as_such(attack: Attack, victim: Victim, request_: Request,
                                                                  items: list[Item], goal: Goal, tmp_path: Path
                                                                  ) -> None:
    mixed = [items[0], LONG, items[2]]
    attack.check(victim, request_, mixed)
    made = attempts(attack, victim, request_, mixed, replace(goal, known=False), folder=tmp_path, fresh=0)
    assert [item.error.startswith(NO_ROOM) for item in made] == [False, True, False]
    assert made[1].outcome == "failed"
    before = plain(victim, mixed, goal)
    run = AttackRun(attack=attack.name, access="none", white_box=False, source="", settings={}, budget=Spent(),
                    attempts=tuple(made))
    score = next(score for score in suite_scores(before, [run]) if score.name == f"attack/{attack.name}")
    assert score.left_out[NO_ROOM] == 1
    with pytest.raises(UserError, match="prompt"):
        attack.check(victim, request_, [LONG])
    cutting = replace(victim, sampler=victim.sampler.model_copy(update={"truncate": True}))
    attack.check(cutting, request_, [LONG])
    cut, = attempts(attack, cutting, request_, [LONG], replace(goal, known=False), folder=tmp_path / "cut", fresh=0)
    assert not cut.error


def test_a_standing_item_without_room_does_not_stop_a_run_that_goes_on(victim: Victim, request_: Request, goal: Goal,
                                                                       tmp_path: Path) -> None:
    made, = attempts(RandomPrompt(), victim, request_, [LONG], goal, folder=tmp_path)
    assert made.outcome == "failed"


def test_wordings_that_are_too_long_are_not_asked(victim: Victim, request_: Request, items: list[Item], goal: Goal
                                                  ) -> None:
    worded = replace(victim, variants={"paraphrase": ("a chapel", "a chapel and " * 12)})
    Paraphrase().check(worded, request_, items)
    outcomes = [*Paraphrase().outcomes(worded, request_, items[:1], replace(goal, aim=Aim("brighter still", "light")))]
    assert [(one.error, one.text) for one in outcomes] == [("", "a chapel")]


def test_pairs_that_are_too_long_make_no_vector(victim: Victim, items: list[Item]) -> None:
    request = Request(concept="church", prompts=("a church", "a church and " * 12))
    RingABell(tokens=5).check(victim, request, items)


def test_items_of_other_guidance_are_attacked_with_it(victim: Victim, request_: Request, items: list[Item], goal: Goal,
                                                      tmp_path: Path) -> None:
    prompt, seed = items[0]
    own: Item = (prompt.model_copy(update={"guidance": 4.0}), seed)
    seen = victim.seen(goal, [items[0], own])
    assert seen[0] == goal.see(victim.draw([prompt.text], [seed]))[0]
    other = replace(victim, sampler=victim.sampler.model_copy(update={"guidance": 4.0}))
    assert seen[1] == goal.see(other.draw([prompt.text], [seed]))[0]
    first, = attempts(RandomPrompt(tries=1), victim, request_, [own], goal, folder=tmp_path)
    again, = attempts(RandomPrompt(tries=1), victim, request_, [items[0]], goal, folder=tmp_path)
    assert (first.prompt.guidance, again.prompt.guidance) == (4.0, None), "what was drawn otherwise is attacked anew"
    assert len(victim.model.texts[0].tokens(again.text)) == 3 + len(victim.model.texts[0].tokens(prompt.text))
