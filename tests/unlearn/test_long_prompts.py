"""Prompts that are too long for the text encoder are left out of training by themselves."""

from __future__ import annotations

from typing import Any

import pytest

from expunge.errors import UserError
from expunge.records import Request, Target
from expunge.unlearn.erase import erase, fitting, plan
from expunge.unlearn.retain import _fitting

LONG = "a church and " * 12
SETTINGS = {"source": {"grid": 4, "trajectories": 3}, "steps": 2, "batch": 2}
WHY = "longer than the text encoder reads"


def test_texts_that_are_too_long_are_not_trained_on_and_the_card_says_so(model: Any) -> None:
    request = Request(concept="church", prompts=("a church", LONG), keep=("a dog", LONG.replace("church", "dog")))
    patch = erase(model, request, settings=SETTINGS, own_look=False)
    assert patch.card.request.prompts == ("a church",)
    assert patch.card.request.keep == ("a dog",)
    assert {text: patch.card.left_out[text] for text in (LONG, LONG.replace("church", "dog"))} == dict.fromkeys(
        (LONG, LONG.replace("church", "dog")), WHY)
    assert any(WHY in line for line in plan(model, request, settings=SETTINGS)["chosen"])


def test_a_concept_of_which_nothing_fits_is_refused(model: Any) -> None:
    with pytest.raises(UserError, match="has 36 tokens"):
        erase(model, Request(concept="church", prompts=(LONG,)), settings=SETTINGS, own_look=False)


def test_a_prompt_that_is_too_long_with_its_anchor_is_left_out_and_other_concepts_keep_theirs(model: Any) -> None:
    near = " ".join(["church"] + ["dog"] * 12)
    request = Request(concept="church", prompts=("a church", near), anchor="a very old house", also=(
        Target(concept="knife", prompts=("a knife",)),))
    made, lost = fitting(model, request)
    assert made.prompts == ("a church",)
    assert made.also == request.also
    assert lost == {near: WHY}


def test_retained_prompts_are_sorted_out_with_one_question(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "encode", None)
    lost: dict[str, str] = {}
    assert _fitting(model, ["a church", LONG, "a dog"], lost) == ["a church", "a dog"]
    assert lost == {LONG: WHY}
