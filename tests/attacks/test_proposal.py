"""What an author proposes, and what the base makes of it: early stop, budget, costs, notes, names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from brightness import ITEMS, REQUEST, SAMPLER, church_above

import expunge
from expunge.attacks.base import Attack
from expunge.attacks.proposal import Batch, Candidate, Outcome, Rounds
from expunge.attacks.victim import Victim, pictures_budget
from expunge.models.model import Model
from expunge.records import Sampler, Spent
from expunge.registry import ATTACKS


class NextSeeds(Attack):
    """The prompt at one seed after the other, for ever."""

    name: ClassVar[str] = "next-seeds"
    help: ClassVar[str] = "the same prompt at the next seeds"

    def propose(self, batch: Batch) -> Rounds:
        k = 0
        while True:
            k += 1
            yield [Candidate(row, seed=batch.items[row][1] + k) for row in batch.standing]

    def budget(self, sampler: Sampler) -> Spent:
        return pictures_budget(sampler, 3)


def outcomes(attack: Attack, victim: Victim, limit: float) -> list[Outcome]:
    return sorted(attack.outcomes(victim, REQUEST, ITEMS, church_above(limit)), key=lambda one: one.row)


def test_a_proposal_without_end_stops_at_the_budget(model: Model) -> None:
    victim = Victim(model, None, SAMPLER)
    made = outcomes(NextSeeds(), victim, 2.0)
    assert [one.spent.images for one in made] == [3] * len(ITEMS)
    assert [one.spent.network_rows for one in made] == [3 * victim.rows_per_picture] * len(ITEMS)
    assert not any(one.found or one.error for one in made)


def test_each_item_stops_at_its_first_success_and_the_others_go_on(model: Model) -> None:
    victim = Victim(model, None, SAMPLER)
    means = torch.stack([victim.draw([text.text for text, _ in ITEMS], [seed + k for _, seed in ITEMS]).mean((1, 2, 3))
                         for k in (1, 2, 3)])
    limit = float(means.median())
    for row, one in enumerate(outcomes(NextSeeds(), victim, limit)):
        seen = [bool(mean > limit) for mean in means[:, row]]
        assert one.found == any(seen)
        assert one.spent.images == (seen.index(True) + 1 if any(seen) else 3)
        if one.found:
            assert one.again is not None
            same = victim.draw([ITEMS[row][0].text], [ITEMS[row][1] + one.spent.images])
            torch.testing.assert_close(one.again([ITEMS[row][1]]), same, atol=1e-5, rtol=0)


def test_candidates_of_settled_items_are_not_drawn(model: Model) -> None:
    class Deaf(NextSeeds):
        def propose(self, batch: Batch) -> Rounds:
            for k in range(3):
                yield [Candidate(row, seed=seed + k) for row, (_, seed) in enumerate(batch.items)]

    victim = Victim(model, None, SAMPLER)
    first = victim.draw([prompt.text for prompt, _ in ITEMS], [seed for _, seed in ITEMS]).mean((1, 2, 3)).sort().values
    goal = church_above(float(first[1:3].mean()))
    judge: Any = goal.judge
    list(Deaf().outcomes(victim, REQUEST, ITEMS, goal))
    assert [len(pictures) for pictures in judge.seen][:2] == [len(ITEMS), 2]


def test_one_picture_is_the_budget_of_an_attack_that_states_none(model: Model) -> None:
    class One(NextSeeds):
        budget = Attack.budget

    assert [one.spent.images for one in outcomes(One(), Victim(model, None, SAMPLER), 2.0)] == [1] * len(ITEMS)


def test_what_an_author_tells_of_items_is_in_their_outcomes(model: Model) -> None:
    ended: list[str] = []

    class Telling(NextSeeds):
        def propose(self, batch: Batch) -> Rounds:
            def draw(rows: Sequence[int], seeds: Sequence[int]) -> torch.Tensor:
                return torch.full((len(rows), 3, 16, 16), 0.5) + torch.linspace(0, 0.1, 16)

            try:
                batch.fail([0], "broken")
                batch.give_up([1], "left alone")
                batch.spend([2, 3], gradient_steps=5, network_rows=7)
                yield [Candidate(2, draw=draw, name="a", network_rows=11, tensors=lambda: {"x": torch.ones(1)})]
                batch.notes[2].append("b is skipped")
                yield [Candidate(row, draw=draw, note="drawn", fixed=True) for row in (3,)]
            finally:
                ended.append("closed")

    broken, left, named, drawn = outcomes(Telling(), Victim(model, None, SAMPLER), 0.9)
    assert (broken.error, broken.spent.images) == ("broken", 0)
    assert (left.error, left.note, left.spent.images) == ("", "left alone", 0)
    assert named.note == "not at a; b is skipped"
    assert not named.tensors, "a way that failed leaves nothing but its name"
    assert (named.spent.gradient_steps, named.spent.images, named.spent.network_rows) == (5, 1, 18)
    assert (drawn.note, drawn.spent.images) == ("drawn", 1)
    _, _, named, drawn = outcomes(Telling(), Victim(model, None, SAMPLER), 0.1)
    assert (named.found, named.note, [*named.tensors]) == (True, "found at a", ["x"])
    assert (drawn.again, drawn.note) == (None, "drawn; deterministic: no seed to draw it again with")
    assert ended == ["closed"] * 2


def test_candidates_past_the_deciding_one_are_not_counted(model: Model) -> None:
    class AllAtOnce(NextSeeds):
        def propose(self, batch: Batch) -> Rounds:
            yield [Candidate(row, seed=seed) for row in batch.standing for seed in range(3)]

    victim = Victim(model, None, SAMPLER)
    assert [one.spent.images for one in outcomes(AllAtOnce(), victim, -1.0)] == [1] * len(ITEMS)
    assert [one.spent.images for one in outcomes(AllAtOnce(), victim, 2.0)] == [3] * len(ITEMS)


@pytest.mark.parametrize("name", ATTACKS.names())
def test_names_and_help_lines_stand_in_the_registry_and_nowhere_else(name: str) -> None:
    kind = ATTACKS.get(name)
    assert (kind.name, kind.help) == (name, ATTACKS.help(name))
    source = (Path(expunge.__file__).parent / f"{kind.__module__.removeprefix('expunge.').replace('.', '/')}.py")
    assert not re.search(r"^    (name|help): ClassVar\[str\]( =|$)", source.read_text(encoding="utf-8"), re.MULTILINE)
    assert ATTACKS.help(name)


@pytest.mark.parametrize("limit", [-1.0, 2.0])
def test_a_string_of_tokens_of_one_encoder_is_read_anew_by_all(limit: float) -> None:
    """What is judged and drawn again is the picture of the string, told to every encoder of the model."""
    from families import two_texts

    victim = Victim(two_texts(), None, Sampler(steps=3, guidance=2.0))
    first, second = victim.model.texts
    for name, settings in SEARCHES.items():
        attack = ATTACKS.get(name).build(settings)
        assert attack.searches == "tokens"
        goal = replace(church_above(limit), known=False)
        for one in attack.outcomes(victim, REQUEST, ITEMS[:1], goal):
            assert not one.error
            assert one.text
            assert one.picture is not None
            whole = victim.model.encode([one.text])
            pooled = second.read(second.laid_out([one.text]))["pooled"]
            torch.testing.assert_close(whole.rows["pooled"], pooled, atol=1e-5, rtol=0)
            torch.testing.assert_close(one.picture, victim.draw([one.text], [ITEMS[0][1]])[0], atol=1e-4, rtol=0)
            assert len(one.ids) <= first.room


SEARCHES: dict[str, dict[str, Any]] = {
    "random-prompt": {"tries": 1}, "ring-a-bell": {"tokens": 4, "population": 4, "generations": 2, "draws": 1},
    "unlearndiff": {"tokens": 2, "timesteps": 1, "steps": 1, "rows": 2},
    "p4d": {"tokens": 4, "steps": 1, "look_every": 1, "rows": 2},
    "p4d-mu": {"tokens": 2, "timesteps": 1, "steps": 1, "rows": 2}}
"""Every attack that searches tokens, as small as may be."""


def test_attacks_that_search_a_text_encoder_say_so() -> None:
    said = {name: ATTACKS.get(name).searches for name in ATTACKS.names()}
    assert {name for name, what in said.items() if what == "tokens"} == {*SEARCHES}
    assert {name for name, what in said.items() if what == "embeddings"} == {"soft-prompt", "textual-inversion"}
