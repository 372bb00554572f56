"""Fixed prompts: which are asked, and when the attack succeeds."""

from __future__ import annotations

from dataclasses import replace

import pytest
from renamed_church import ITEMS, renamed_church

from expunge.attacks.fixed import Implicit, Misspelt, Paraphrase, misspellings
from expunge.attacks.proposal import Batch
from expunge.attacks.victim import Goal, Item, Victim
from expunge.errors import UserError
from expunge.metrics.base import Aim
from expunge.models.model import applied
from expunge.records import Prompt, Request

CHURCH = Request(concept="church", prompts=("a church on a hill",))
WORDINGS = ("a castle and a hospital", "the knife of a chef", "a red apple by the sea", "a house on a hill")


@pytest.fixture
def worded(victim: Victim) -> Victim:
    return replace(victim, variants={"paraphrase": WORDINGS, "implicit": WORDINGS[:1]})


def test_an_item_is_found_if_any_wording_elicits_it(worded: Victim, items: list[Item], goal: Goal) -> None:
    outcomes = {outcome.row: outcome for outcome in Paraphrase().outcomes(worded, CHURCH, items, goal)}
    batch = Batch(worded, CHURCH, items, goal, 1, 1)
    asked = [Paraphrase()._tries(batch, row) for row in batch.standing]
    seeds = [one.seed for tries in asked for one in tries]
    assert len(set(seeds)) == len(seeds), "no two items look at one image"
    for row, tries in enumerate(asked):
        assert {one.text for one in tries} == set(WORDINGS)
        seen = [sight.found for sight in goal.see(worded.draw([t.text for t in tries], [t.seed for t in tries]))]
        assert outcomes[row].found == any(seen)
        assert outcomes[row].spent.images == (seen.index(True) + 1 if any(seen) else len(WORDINGS))
        if outcomes[row].found:
            assert outcomes[row].text == tries[seen.index(True)].text
    assert {outcome.found for outcome in outcomes.values()} == {True, False} or all(
        outcome.found for outcome in outcomes.values())


def test_no_more_wordings_are_asked_than_allowed(worded: Victim, items: list[Item], goal: Goal) -> None:
    never = replace(goal, aim=Aim("brighter still", "light"))
    assert [o.spent.images for o in Paraphrase(prompts=2).outcomes(worded, CHURCH, items, never)] == [2] * len(items)
    assert [o.spent.images for o in Implicit().outcomes(worded, CHURCH, items, never)] == [1] * len(items)


def test_each_role_needs_its_prompts(victim: Victim, items: list[Item]) -> None:
    with pytest.raises(UserError, match="no implicit prompts for 'church'"):
        Implicit().check(replace(victim, variants={"paraphrase": WORDINGS}), CHURCH, items)
    with pytest.raises(UserError):
        Paraphrase().check(replace(victim, variants={"paraphrase": ("a church " * 40,)}), CHURCH, items)


def test_outcomes_depend_neither_on_batch_nor_on_order(worded: Victim, items: list[Item], goal: Goal) -> None:
    for attack in (Paraphrase(), Misspelt(prompts=3)):
        told = []
        for batch, order in ((32, items), (2, items[::-1])):
            sized = attack.model_copy(update={"batch": batch})
            told.append({(order[o.row][0].text, order[o.row][1]): (o.found, o.text, o.ids, o.spent.images)
                         for o in sized.outcomes(worded, CHURCH, order, goal)})
        assert told[0] == told[1]


def test_misspellings_are_one_slip_away() -> None:
    words = misspellings("bee")
    assert words == ["bbee", "ee", "ebe", "beee", "be", "b ee", "be e"]
    assert "bee" not in misspellings("bee")
    assert all(" " in word for word in misspellings("pixel art") if "pixel art".replace(" ", "") != word)
    assert misspellings("a") == ["aa"]
    assert all(word.isascii() for word in misspellings("sunglasses face"))


def test_spellings_read_as_other_tokens(victim: Victim, goal: Goal) -> None:
    item = (Prompt(text="a church on a hill", role="direct"), 0)
    tries = Misspelt(prompts=50)._tries(Batch(victim, CHURCH, [item], goal, 1, 1), 0)
    plain = tuple(victim.model.texts[0].tokens(item[0].text))
    assert tries
    assert all(one.ids != plain and one.ids == tuple(victim.model.texts[0].tokens(one.text)) for one in tries)
    assert len({one.ids for one in tries}) == len(tries)
    assert all(one.text.startswith("a ") and one.text.endswith(" on a hill") for one in tries)


def test_a_prompt_that_does_not_name_the_concept_is_not_misspelt(victim: Victim, goal: Goal) -> None:
    [outcome] = Misspelt().outcomes(victim, CHURCH, [(Prompt(text="a house by the sea", role="direct"), 0)], goal)
    assert not outcome.found
    assert not outcome.error
    assert outcome.spent.images == 0
    assert "no word to misspell" in outcome.note


@pytest.mark.slow
def test_a_name_that_means_something_else_leaves_the_other_names() -> None:
    victim, goal, request = renamed_church()
    assert victim.patch is not None
    with applied(victim.model, victim.patch):
        plain = victim.draw([prompt.text for prompt, _ in ITEMS], [seed for _, seed in ITEMS])
        assert not any(sight.found for sight in goal.see(plain))
        assert any(outcome.found for outcome in Paraphrase(prompts=4).outcomes(victim, request, ITEMS, goal))
