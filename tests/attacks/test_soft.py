"""Soft prompts: free embeddings per item, each learned alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from expunge.attacks.soft import SoftPrompt, _latents
from expunge.attacks.victim import Goal, Item, Victim
from expunge.errors import UserError
from expunge.metrics.base import Aim
from expunge.records import Request

QUICK: dict[str, Any] = {"tokens": 2, "steps": 6, "rows": 2, "looks": 2, "learning_rate": 0.05}


@pytest.fixture
def given(victim: Victim) -> Victim:
    """Victim with a picture of the user's own: light above, dark below."""
    picture = torch.zeros(1, 3, 16, 16)
    picture[:, :, :8] = 1.0
    return replace(victim, pictures=picture)


@pytest.mark.parametrize("kind", ["model", "v_model"])
def test_learning_lowers_the_loss_on_fresh_noise(kind: str, request: pytest.FixtureRequest, given: Victim,
                                                 items: list[Item], goal: Goal, request_: Request) -> None:
    victim, item = replace(given, model=request.getfixturevalue(kind)), items[0]
    model, attack = victim.model, SoftPrompt.build({**QUICK, "steps": 40, "looks": 1})
    never = replace(goal, aim=Aim("brighter still", "light"))
    [outcome] = attack.outcomes(victim, request_, [item], never)
    places, P = attack._start(model, [item])
    x0 = _latents(model, list(given.pictures)).repeat(16, 1, 1, 1)
    generator = torch.Generator().manual_seed(5)
    t, eps = model.process.schedule.draw(16, generator), torch.randn(x0.shape, generator=generator)
    losses = []
    with torch.no_grad():
        for prefix in (P.detach(), outcome.tensors["prefix"][None]):
            out = model.predict(model.process.noised(x0, eps, t), t, places.told(model, prefix[0]).repeat(16))
            losses.append(float((out - model.process.target(x0, eps, t)).square().mean()))
    assert losses[1] < losses[0]


def test_outcomes_depend_neither_on_batch_nor_on_order(given: Victim, items: list[Item], goal: Goal, request_: Request
                                                       ) -> None:
    told = []
    for batch, order in ((32, items), (2, items[::-1])):
        attack = SoftPrompt.build({**QUICK, "batch": batch})
        told.append({(order[o.row][0].text, order[o.row][1]): o for o in attack.outcomes(given, request_, order, goal)})
    for item, outcome in told[0].items():
        other = told[1][item]
        assert (outcome.found, outcome.spent.gradient_steps) == (other.found, other.spent.gradient_steps)
        torch.testing.assert_close(outcome.tensors["prefix"], other.tensors["prefix"], atol=1e-3, rtol=0)
    assert {outcome.spent.gradient_steps for outcome in told[0].values()} == {3, 6}  # some stop early


def test_a_success_is_drawn_again_from_its_embeddings(given: Victim, items: list[Item], goal: Goal, request_: Request
                                                      ) -> None:
    outcomes = list(SoftPrompt.build(QUICK).outcomes(given, request_, items, goal))
    assert any(outcome.found for outcome in outcomes)
    for outcome in outcomes:
        assert outcome.tensors["prefix"].shape == (2, 32)
        assert outcome.again is not None
        torch.testing.assert_close(outcome.again([items[outcome.row][1]])[0], outcome.picture, atol=1e-5, rtol=0)
        assert outcome.spent.network_rows == (3 * 2 * outcome.spent.gradient_steps
                                              + outcome.spent.images * given.rows_per_picture)


def test_embeddings_of_words_are_those_words(victim: Victim, items: list[Item]) -> None:
    """At the start the prefix is made of random words, so the states are those of the text that they spell."""
    attack = SoftPrompt.build(QUICK)
    places, P = attack._start(victim.model, items[:2])
    encoder = victim.model.texts[0]
    words = [[int((encoder.table == vector).all(1).nonzero()[0]) for vector in own] for own in P.detach()]
    texts = [encoder.tokenizer.decode([*first, *encoder.tokens(prompt.text)])
             for first, (prompt, _) in zip(words, items[:2], strict=True)]
    with torch.no_grad():
        states = places.told(victim.model, P.flatten(0, 1))
        torch.testing.assert_close(states.states, victim.model.encode(texts).states, atol=1e-5, rtol=0)
        pictures = victim.draw_conditioned(states, [7, 8])
    torch.testing.assert_close(pictures, victim.draw(texts, [7, 8]), atol=1e-5, rtol=0)


def test_items_without_a_picture_fail_alone(victim: Victim, items: list[Item], goal: Goal, request_: Request) -> None:
    nowhere = replace(goal, aim=Aim("brighter still", "light"))
    for outcome in SoftPrompt.build(QUICK).outcomes(victim, request_, items[:2], nowhere):
        assert not outcome.found
        assert "no image of 'brighter still'" in outcome.error


def test_the_model_is_left_as_it_was(given: Victim, items: list[Item], goal: Goal, request_: Request) -> None:
    before = {name: p.clone() for name, p in given.model.parameters_in("all").items()}
    list(SoftPrompt.build(QUICK).outcomes(given, request_, items[:2], goal))
    after = given.model.parameters_in("all")
    assert all(torch.equal(before[name], p) and p.grad is None and not p.requires_grad for name, p in after.items())


def test_bad_input_is_refused_before_computing(victim: Victim, items: list[Item], request_: Request) -> None:
    SoftPrompt().check(victim, request_, items)
    with pytest.raises(UserError, match="insert fewer tokens"):
        SoftPrompt(tokens=13).check(victim, request_, items)
    with pytest.raises(UserError, match="target images of shape"):
        SoftPrompt().check(replace(victim, pictures=torch.zeros(0, 3, 16, 16)), request_, items)
