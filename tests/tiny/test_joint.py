"""One style of one thing: understood however it is said, and its row and column are the neighbours."""

from __future__ import annotations

import pytest

from expunge.errors import UserError
from expunge.metrics.base import PromptCounts
from expunge.records import FORGET_ROLES
from expunge.tiny.emoji import emoji_world
from expunge.tiny.joint import parts
from expunge.tiny.world import STYLES, far

WORLD = emoji_world()
BOTH = ("church", "pixel art")


@pytest.mark.parametrize("name", ["pixel art church", "church in pixel art", "a church in pixel art style",
                                  "8-bit church", "Pixel-Art churches", "church in the style of pixel art",
                                  "pixel\u00a0art church"])
def test_a_thing_in_a_style_is_understood_however_it_is_said(name: str) -> None:
    assert parts(name) == BOTH
    request = WORLD.prompts.request(name)
    assert (request.concept, request.joint) == (name, {"object": "church", "style": "pixel art"})


@pytest.mark.parametrize(("concept", "only_with", "says"), [
    ("church", "pixel", "unknown only_with 'pixel' .did you mean 'pixel art'"),
    ("chruch", "pixel art", "unknown concept 'chruch' .did you mean 'church'"),
    ("church", "dog", "'church' only with 'dog'; accepted: a thing and a style")])
def test_what_is_unknown_of_two_that_go_together_is_the_one_named(concept: str, only_with: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        WORLD.prompts.request(concept, only_with=only_with)


@pytest.mark.parametrize(("told", "meant"), [("CHURCH", "church"), ("Chruch", "church"), ("PIXEL ART", "pixel art")])
def test_a_name_in_capitals_is_told_what_was_meant(told: str, meant: str) -> None:
    with pytest.raises(UserError, match=f"did you mean '{meant}'"):
        WORLD.prompts.request(told)


def test_only_with_says_the_same() -> None:
    assert WORLD.prompts.request("church", only_with="pixel art").joint == {"object": "church", "style": "pixel art"}
    assert WORLD.prompts.request("pixel art", only_with="church").joint == {"object": "church", "style": "pixel art"}


def test_what_names_no_single_cell_is_unknown() -> None:
    for name in ("church bomb", "flat pixel art", "pixel art unicorn"):
        with pytest.raises(UserError, match="unknown concept"):
            WORLD.prompts.request(name)
    with pytest.raises(UserError, match="no drawings"):
        WORLD.prompts.request("outlined church")


def test_forget_prompts_show_both_and_keep_prompts_never_do() -> None:
    request = WORLD.prompts.request("pixel art church", "house")
    assert all("pixel art" in text and "church" in text for text in request.prompts)
    prompts = WORLD.prompts.of(request, PromptCounts(near=40, far=40, style=10))
    for prompt in prompts:
        if {"object", "style"} <= prompt.labels.keys():
            seen = (prompt.labels["object"], prompt.labels["style"])
            assert (seen == BOTH) is (prompt.role in FORGET_ROLES)
    near = [prompt.labels for prompt in prompts if prompt.role == "near"]
    assert {labels["style"] for labels in near if labels["object"] == "church"} == {"3d", "flat", "black and white"}
    assert len({labels["object"] for labels in near if labels["style"] == "pixel art"}) > 5
    assert all(labels["object"] == "church" or labels["style"] == "pixel art" for labels in near)
    away = [prompt.labels for prompt in prompts if prompt.role == "far"]
    assert all(labels["object"] in far("church") and labels.get("style") != "pixel art" for labels in away)


def test_the_other_cells_of_row_and_column_are_kept_in_training() -> None:
    keep = WORLD.prompts.request("pixel art church").keep
    assert [text for text in keep if "church" in text] == [
        f"a {style} emoji of a church" for style in STYLES if style not in ("pixel art", "outlined")]
    assert sum("pixel art" in text for text in keep) >= 6
    assert WORLD.prompts.request("pixel art church", keep=("church", "pixel art")).keep == (
        "an icon of a church", "an emoji in pixel art style")


def test_the_other_cells_may_go_or_take_its_place_only_where_that_makes_sense() -> None:
    for keep in ("church in pixel art", "8-bit church"):
        with pytest.raises(UserError, match="to be kept"):
            WORLD.prompts.request("pixel art church", keep=(keep,))
    for anchor in ("church", "flat"):
        with pytest.raises(UserError, match="anchor"):
            WORLD.prompts.request("pixel art church", anchor)
    both = WORLD.prompts.request(["pixel art church", "flat church"])
    assert not any(text.startswith(("a flat emoji of a church", "a pixel art emoji of a church")) for text in both.keep)


def test_the_second_judge_answers_both_questions() -> None:
    judge = WORLD.second(WORLD.prompts.request("pixel art church"))
    assert judge is not None
    assert {"object", "style"} == set(judge.questions)


def test_kinds_are_the_worlds_own() -> None:
    assert (WORLD.prompts.request("flat").kind, WORLD.prompts.request("church").kind) == ("style", "object")
    with pytest.raises(UserError, match="as kind 'person'"):
        WORLD.prompts.request("church", kind="person")
