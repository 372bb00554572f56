"""Textual inversion: one word for the whole request, learned in the edited model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from renamed_church import ITEMS, renamed_church

from expunge.attacks.inversion import TextualInversion, _own_embedding, _slotted, _told
from expunge.attacks.victim import Goal, Item, Victim
from expunge.errors import UserError
from expunge.metrics.base import Aim
from expunge.models.model import applied
from expunge.records import Prompt, Request

CHURCH = Request(concept="church", prompts=("a church on a hill", "a picture of a church"))
QUICK: dict[str, Any] = {"pictures": 2, "steps": 8, "rows": 2, "looks": 2, "learning_rate": 0.05}


@pytest.fixture
def given(victim: Victim) -> Victim:
    """Victim with two pictures of the user's own: flat halves, one light and one dark."""
    pictures = torch.zeros(2, 3, 16, 16)
    pictures[:, :, :8] = 1.0
    pictures[1] *= 0.5
    return replace(victim, pictures=pictures)


def test_the_words_own_embedding_in_its_place_is_the_prompt(victim: Victim) -> None:
    texts = ["a church on a hill", "a picture of a church"]
    slotted = _slotted(victim.model, texts, CHURCH)
    assert len(victim.model.texts[0].tokens("church")) == 1
    with torch.no_grad():
        states = _told(victim.model, slotted, _own_embedding(victim.model, "church"), (0, 1)).states
        torch.testing.assert_close(states, victim.model.encode(texts).states, atol=1e-5, rtol=0)
    assert torch.equal(slotted.tokens.ids, victim.model.texts[0].laid_out(texts).ids)


def test_a_prompt_that_does_not_name_the_concept_gets_the_word_in_front(victim: Victim) -> None:
    slotted = _slotted(victim.model, ["a dog", "a church"], CHURCH)
    assert list(zip(slotted.row.tolist(), slotted.column.tolist(), strict=True)) == [(0, 1), (1, 2)]
    assert slotted.tokens.ids[0, 2:4].tolist() == victim.model.texts[0].tokens("a dog")


def test_learning_lowers_the_loss(given: Victim, goal: Goal) -> None:
    attack = TextualInversion.build({**QUICK, "steps": 40, "looks": 1})
    [(_, v)] = attack._learn_once(given, CHURCH, goal)
    slotted = _slotted(given.model, CHURCH.prompts, CHURCH)
    with torch.no_grad():
        x0 = given.model.encode_pixels(given.pictures)
        losses = [sum(float(attack._loss(given.model, slotted, x0, word, torch.Generator().manual_seed(k)))
                      for k in range(20)) for word in (_own_embedding(given.model, "church"), v)]
    assert losses[1] < losses[0]


def test_outcomes_depend_neither_on_batch_nor_on_order(given: Victim, items: list[Item], goal: Goal) -> None:
    told = []
    for batch, order in ((32, items), (2, items[::-1])):
        attack = TextualInversion.build({**QUICK, "batch": batch})
        outcomes = {(order[o.row][0].text, order[o.row][1]): o for o in attack.outcomes(given, CHURCH, order, goal)}
        assert len(attack._learned) == 1  # learned once, not once per batch
        told.append(outcomes)
    for item, outcome in told[0].items():
        other = told[1][item]
        assert (outcome.found, outcome.note) == (other.found, other.note)
        assert outcome.spent.gradient_steps == other.spent.gradient_steps
        assert torch.equal(outcome.tensors["embedding"], other.tensors["embedding"])


def test_a_success_is_drawn_again_and_its_cost_is_that_of_its_embedding(given: Victim, items: list[Item], goal: Goal
                                                                       ) -> None:
    attack = TextualInversion.build(QUICK)
    outcomes = list(attack.outcomes(given, CHURCH, items, goal))
    assert any(outcome.found for outcome in outcomes)
    for outcome in outcomes:
        assert outcome.spent.gradient_steps in (4, 8)
        assert outcome.spent.images == outcome.spent.gradient_steps // 4
        assert outcome.spent.network_rows == (3 * 2 * outcome.spent.gradient_steps
                                              + outcome.spent.images * given.rows_per_picture)
        assert outcome.again is not None
        torch.testing.assert_close(outcome.again([items[outcome.row][1]])[0], outcome.picture, atol=1e-5, rtol=0)
    assert attack.budget(given.sampler).gradient_steps == 8
    assert attack.budget(given.sampler).images == 2


def test_pictures_are_the_original_models_where_none_are_given(victim: Victim, items: list[Item], goal: Goal) -> None:
    attack = TextualInversion.build({**QUICK, "pictures": 3, "steps": 2})
    texts, pictures = attack._lessons(victim, CHURCH, goal)
    assert 0 < len(texts) == len(pictures) <= 3
    assert set(texts) <= set(CHURCH.prompts)
    assert all(sight.found for sight in goal.see(torch.stack(pictures)))
    nowhere = replace(goal, aim=Aim("brighter still", "light"))
    for outcome in attack.outcomes(victim, CHURCH, items[:2], nowhere):
        assert "no image of 'brighter still'" in outcome.error


def test_the_model_is_left_as_it_was(given: Victim, items: list[Item], goal: Goal) -> None:
    before = {name: p.clone() for name, p in given.model.parameters_in("all").items()}
    list(TextualInversion.build({**QUICK, "steps": 2}).outcomes(given, CHURCH, items[:2], goal))
    after = given.model.parameters_in("all")
    assert all(torch.equal(before[name], p) and p.grad is None and not p.requires_grad for name, p in after.items())


def test_a_new_word_is_learned_for_what_lost_its_name() -> None:
    victim, goal, request = renamed_church()
    attack = TextualInversion(pictures=3, steps=24, rows=4, looks=2, learning_rate=0.02)
    assert victim.patch is not None
    with applied(victim.model, victim.patch):
        assert any(outcome.found for outcome in attack.outcomes(victim, request, ITEMS, goal))


def test_bad_input_is_refused_before_computing(victim: Victim, items: list[Item]) -> None:
    attack = TextualInversion()
    attack.check(victim, CHURCH, items)
    with pytest.raises(UserError, match="none of the request's prompts"):
        attack.check(victim, Request(concept="church", prompts=("a dog",)), items)
    with pytest.raises(UserError, match="tokens"):
        attack.check(victim, CHURCH, [(Prompt(text="a dog " * 7, role="direct"), 0)])
    with pytest.raises(UserError, match="target images of shape"):
        attack.check(replace(victim, pictures=torch.zeros(0, 3, 16, 16)), CHURCH, items)
