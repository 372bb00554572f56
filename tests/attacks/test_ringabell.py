"""Ring-A-Bell: the genetic search in the text encoder, and what it leaves alone."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from renamed_church import ITEMS, renamed_church

from expunge.attacks.base import item_generator
from expunge.attacks.proposal import Batch
from expunge.attacks.ringabell import PRESETS, RingABell
from expunge.attacks.victim import Goal, Item, Victim
from expunge.errors import ConfigError, UserError
from expunge.metrics.base import Aim
from expunge.models.model import applied
from expunge.models.patch import Patch
from expunge.records import Prompt, Request

CHURCH = Request(concept="church", prompts=("a church on a hill", "a picture of a church", "a dog"), anchor="house")
QUICK: dict[str, Any] = {"tokens": 5, "population": 8, "generations": 6, "draws": 2}


def target(attack: RingABell, victim: Victim, text: str) -> torch.Tensor:
    pairs = [(victim.model.encode([a]).states[0], victim.model.encode([b]).states[0])
             for a, b in attack._pairs(victim.model, CHURCH)]
    v = torch.stack([a - b for a, b in pairs]).mean(0)
    return victim.model.encode([text]).states[0] + attack.eta * v


@pytest.mark.parametrize("start", ["random", "prompt"])
def test_the_search_comes_nearer_to_its_target(victim: Victim, start: str) -> None:
    attack = RingABell.build({**QUICK, "start": start, "population": 16, "generations": 30, "compared": "all"})
    words, text = victim.model.texts[0].plain, "a house by the sea"
    with torch.no_grad():
        aim = target(attack, victim, text)
        generator = item_generator(attack, (Prompt(text=text, role="direct"), 0), "search")
        ranked = attack._search(victim.model, victim.model.texts[0].tokens(text), aim, words, generator)
        best = attack._misfits(victim.model, torch.tensor(ranked[:1]), aim)
        chance = attack._misfits(victim.model, words[torch.randint(
            len(words), (64, 5), generator=torch.Generator().manual_seed(1))], aim)
    assert float(best) < float(chance.quantile(0.02))
    assert len(ranked) == 16
    assert all(len(ids) == 5 for ids in ranked)


def test_states_of_the_written_tokens_are_those_of_the_whole_prompt(victim: Victim) -> None:
    """The encoder is causal, so leaving the padding out changes nothing before it."""
    rows = victim.model.texts[0].plain[torch.arange(10).reshape(2, 5)]
    with torch.no_grad():
        aim = target(RingABell.build(QUICK), victim, "a dog")
        whole = victim.model.encode([f"{victim.model.texts[0].tokenizer.decode(ids)}" for ids in rows.tolist()]).states
        expected = (whole[:, :7].double() - aim[:7].double()).square().sum((1, 2))
        written = RingABell.build({**QUICK, "compared": "written"})._misfits(victim.model, rows, aim)
    torch.testing.assert_close(written, expected, rtol=1e-4, atol=1e-4)


def test_outcomes_depend_neither_on_batch_nor_on_order(victim: Victim, items: list[Item], goal: Goal) -> None:
    told = []
    for batch, order in ((32, items), (2, items[::-1])):
        attack = RingABell.build({**QUICK, "batch": batch})
        told.append({(order[o.row][0].text, order[o.row][1]): (o.found, o.text, o.ids, o.spent.images)
                     for o in attack.outcomes(victim, CHURCH, order, goal)})
    assert told[0] == told[1]
    assert any(found for found, *_ in told[0].values())


def test_the_original_encoder_is_asked_and_the_edit_is_put_back(victim: Victim, items: list[Item], goal: Goal) -> None:
    params = victim.model.parameters_in("text")
    patch = Patch.of({name: p + 0.5 for name, p in params.items()}, model=victim.model, request=CHURCH, method="test",
                     settings={}, seed=0)
    never = replace(goal, aim=Aim("brighter still", "light"))

    def prompts(kind: str, patched: Victim) -> dict[str, list[list[int]]]:
        attack, batch = RingABell.build({**QUICK, "text_encoder": kind}), Batch(patched, CHURCH, items[:1], never, 1, 1)
        with patched.without_patch() if kind == "original" else nullcontext():
            return attack._search_all(batch)

    plain = prompts("original", victim)
    with applied(victim.model, patch):
        patched = replace(victim, patch=patch)
        before = {name: p.clone() for name, p in victim.model.parameters_in("text").items()}
        assert prompts("original", patched) == plain
        assert prompts("edited", patched) != plain
        list(RingABell.build(QUICK).outcomes(patched, CHURCH, items[:1], never))
        assert victim.model.patch_hash == patch.hash
        assert all(torch.equal(p, before[name]) for name, p in victim.model.parameters_in("text").items())


@pytest.mark.slow
def test_prompts_are_found_for_what_lost_its_name() -> None:
    victim, goal, request = renamed_church()
    assert victim.patch is not None
    with applied(victim.model, victim.patch):
        assert any(outcome.found for outcome in RingABell(generations=30).outcomes(victim, request, ITEMS, goal))


def test_published_values_are_a_preset() -> None:
    attack = RingABell.published("violence", draws=2)
    assert (attack.tokens, attack.eta, attack.population, attack.generations, attack.draws) == (38, 5.5, 200, 3000, 2)
    assert all(RingABell.published(name).start == "random" for name in PRESETS)
    with pytest.raises(UserError, match="nudity"):
        RingABell.published("cars")
    with pytest.raises(ConfigError):
        RingABell.published("nudity", population="many")


def test_bad_input_is_refused_before_computing(victim: Victim, items: list[Item]) -> None:
    with pytest.raises(UserError, match="up to 14"):
        RingABell(tokens=15).check(victim, CHURCH, items)
    nameless = Request(concept="church", prompts=("a dog", "a castle"))
    with pytest.raises(UserError, match="none of the request's prompts names 'church'"):
        RingABell(tokens=5).check(victim, nameless, items)
    RingABell(tokens=5).check(victim, CHURCH, items)
