"""Evaluations and attacks of lists whose rows ask in their own ways, and of prompts that cannot be drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from colour_world import SMALL, ColourJudge, ColourPrompts, colour_world, edit

from expunge.attacks.settings import AttackSettings
from expunge.attacks.suite import attack
from expunge.errors import UserError
from expunge.evaluation import EvaluateSettings, evaluate, picture_count
from expunge.metrics.base import PromptCounts
from expunge.metrics.worlds import World
from expunge.models.fitting import TOO_LONG
from expunge.records import Detection, Prompt, Request

CHURCH = {"object": "church"}
LONG = Prompt(text="a church and " * 12, role="direct", labels=CHURCH)


class ListPrompts(ColourPrompts):
    """A list of prompts in place of the colours' own."""

    def __init__(self, *own: Prompt) -> None:
        self._own = list(own)

    def of(self, request: Request, counts: PromptCounts, strata: Any = ()) -> list[Prompt]:
        return self._own


def list_world(*own: Prompt) -> World:
    return colour_world().but(prompts=ListPrompts(*own))


def asks(text: str, **more: Any) -> Prompt:
    return Prompt(text=text, role="direct", labels=CHURCH, **more)


KEEP = Prompt(text="a dog", role="far", labels={"object": "dog"})


def test_a_prompt_that_is_too_long_is_left_out_by_itself_and_counted_in_record_and_rate(model: Any) -> None:
    found = evaluate(model, edit(model, 0.5), settings=SMALL, world=list_world(asks("a church"), LONG, KEEP))
    rate = found.score("found/direct")
    assert rate.n + rate.left_out["abstained"] == 2
    assert rate.left_out[TOO_LONG] == 2
    assert TOO_LONG not in found.score("retained/far").left_out
    assert found.left_out == {LONG.text: TOO_LONG}
    assert f"1 of 3 prompts left out: {TOO_LONG} (--truncate cuts them)." in found.given


def test_truncating_asks_it_cut_and_says_so(model: Any) -> None:
    cutting = SMALL.model_copy(update={"truncate": True})
    found = evaluate(model, edit(model, 0.5), settings=cutting, world=list_world(asks("a church"), LONG, KEEP))
    assert TOO_LONG not in found.score("found/direct").left_out
    assert "1 of 3 prompts cut to what the text encoder reads." in found.given
    assert found.sampler.truncate


def test_where_no_prompt_for_the_concept_is_left_it_is_refused(model: Any) -> None:
    with pytest.raises(UserError, match=r"asks for 'church': longer than .* --truncate"):
        evaluate(model, edit(model, 0.5), settings=SMALL, world=list_world(LONG, KEEP))


def test_rows_are_drawn_at_their_own_seed_guidance_and_size_by_both_models(model: Any, tmp_path: Path) -> None:
    own = [asks("a church", seed=7), asks("a church", seed=9, guidance=3.0),
           asks("a church on a hill", seed=7, width=24, height=16), KEEP]
    found = evaluate(model, edit(model, 0.5), settings=SMALL, world=list_world(*own), out=tmp_path)
    assert found.score("found/direct").seeds == (7, 9)
    assert found.score("perceptual/forget").n == 3
    assert picture_count(own, SMALL) == 2 * (3 + 2) + 2
    assert any(line.startswith("1 of 5 images are of other sizes than most") for line in found.given)
    more = SMALL.model_copy(update={"own_seeds": 2})
    assert picture_count(own[:1], more) == 2 * 2


def test_attacks_take_rows_as_they_are_and_leave_out_what_is_too_long(model: Any, tmp_path: Path,
                                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    own = [asks("a church", seed=seed) for seed in (7, 8, 9)] + [asks("a church", seed=5, guidance=3.0), LONG]
    settings = AttackSettings(attacks=("seed-search",), options={"seed-search": {"tries": 1}}, control_items=0, fresh=1,
                              steps=2, guidance=1.0, force=True, count=5)
    world = list_world(*own)
    monkeypatch.setattr(ColourJudge, "__call__", lambda judge, pictures: [Detection(answers=CHURCH) for _ in pictures])
    made = attack(model, None, concept="church", settings=settings, world=world, out=tmp_path)
    assert made.left_out[TOO_LONG] == 1
    assert {(item.seed, item.prompt.guidance) for item in made.before} == {(5, 3.0), (7, None), (8, None), (9, None)}
    assert len(made.runs[0].attempts) == 4


def test_settings_without_lists_are_as_they_were() -> None:
    assert EvaluateSettings().own_seeds == 1
    assert not EvaluateSettings().truncate
