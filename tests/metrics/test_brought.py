"""What the user brings is used whole, in its order, with nothing added; sentences say what became of all of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from expunge.attacks.settings import AttackSettings, RelearnSettings
from expunge.attacks.stage import named_items, named_prompts, told_of_own, variants
from expunge.metrics.base import PromptCounts
from expunge.metrics.brought import given_prompts, own_prompts
from expunge.metrics.open_world import open_world
from expunge.metrics.worlds import World
from expunge.models.fitting import TOO_LONG
from expunge.records import FORGET_ROLES, KEEP_ROLES, Request

MANY = {"direct": [f"a church, number {k}" for k in range(95)], "implicit": [f"where they sing {k}" for k in range(20)],
        "near": [{"text": f"a mosque {k}", "label": "mosque"} for k in range(30)]}


def world(folder: Path, values: object, **more: bool) -> tuple[World, Request]:
    (folder / "own.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    made = open_world(prompts=folder / "own.yaml", **more)
    return made, made.prompts.request("church", "house")


def texts(prompts: object, role: str) -> list[str]:
    return [prompt.text for prompt in prompts if prompt.role == role]  # type: ignore[attr-defined]


def test_own_prompts_are_used_whole_in_their_order_and_nothing_is_added(tmp_path: Path) -> None:
    made, request = world(tmp_path, MANY)
    prompts = made.prompts.of(request, PromptCounts())
    assert texts(prompts, "direct") == MANY["direct"]
    assert texts(prompts, "implicit") == MANY["implicit"]
    assert len(texts(prompts, "near")) == 30
    assert {prompt.role for prompt in prompts} == {"direct", "implicit", "near"}
    assert made.prompts.given(request, PromptCounts()) == [
        "own.yaml: 95 direct prompts given, 95 used.", "own.yaml: 20 implicit prompts given, 20 used.",
        "own.yaml: 30 near prompts given, 30 used.",
        "own.yaml has no held_out or paraphrase prompts, and none were added."]


def test_a_count_that_is_set_limits_and_says_so(tmp_path: Path) -> None:
    made, request = world(tmp_path, MANY)
    counts = PromptCounts(direct=40)
    assert texts(made.prompts.of(request, counts), "direct") == MANY["direct"][:40]
    assert made.prompts.given(request, counts)[0] == \
        "own.yaml: 95 direct prompts given, 40 used; left out 55: counts.direct is 40."


def test_templates_are_kept_only_where_the_file_keeps_nothing_and_the_record_says_so(tmp_path: Path) -> None:
    made, request = world(tmp_path, {"paraphrase": ["a chapel"]})
    prompts = made.prompts.of(request, PromptCounts())
    assert [prompt.text for prompt in prompts if prompt.role in FORGET_ROLES] == ["a chapel"]
    assert len(texts(prompts, "far")) == 40
    assert "40 far prompts added from templates: own.yaml has none." in made.prompts.given(request, PromptCounts())
    keeps, asked = world(tmp_path, {"near": ["a mosque"]})
    prompts = keeps.prompts.of(asked, PromptCounts())
    assert [prompt.text for prompt in prompts if prompt.role in KEEP_ROLES] == ["a mosque"]
    assert len(texts(prompts, "direct")) == 32
    assert "32 direct prompts added from templates: own.yaml has none." in keeps.prompts.given(asked, PromptCounts())


def test_templates_are_added_when_asked_and_counted_apart(tmp_path: Path) -> None:
    made, request = world(tmp_path, {"direct": ["my church"]}, add_templates=True)
    direct = texts(made.prompts.of(request, PromptCounts()), "direct")
    assert direct[0] == "my church"
    assert len(direct) == 32
    assert "31 direct prompts added from templates: asked for." in made.prompts.given(request, PromptCounts())


def test_what_is_left_out_is_counted_with_its_reason(tmp_path: Path) -> None:
    made, request = world(tmp_path, {"direct": ["a church", "a church", "my church"], "near": ["a white church", "a"]})
    told = made.prompts.given(request, PromptCounts())
    assert told[0] == "own.yaml: 3 direct prompts given, 2 used; left out 1: the same text twice."
    assert told[1] == "own.yaml: 2 near prompts given, 1 used; left out 1: it is to be kept and names 'church'."


def test_of_several_concepts_one_that_the_file_does_not_ask_for_gets_templates(tmp_path: Path) -> None:
    made, _ = world(tmp_path, {"direct": [{"text": "my church", "label": "church"}]})
    request = made.prompts.request(["church", "bomb"])
    prompts = made.prompts.of(request, PromptCounts(direct=2))
    asked = [(prompt.text, prompt.labels["object"]) for prompt in prompts if prompt.role == "direct"]
    assert asked == [("my church", "church"), ("bomb", "bomb"), ("a photo of a bomb", "bomb")]


def test_templates_whose_text_the_user_brings_are_the_users(tmp_path: Path) -> None:
    made, request = world(tmp_path, {"held_out": ["a photo of a church"]}, add_templates=True)
    prompts = made.prompts.of(request, PromptCounts())
    assert texts(prompts, "held_out")[0] == "a photo of a church"
    assert "a photo of a church" not in texts(prompts, "direct")
    assert len({prompt.text for prompt in prompts}) == len(prompts)


def test_without_a_file_nothing_is_said() -> None:
    made = open_world()
    request = made.prompts.request("church")
    assert made.prompts.given(request, PromptCounts()) == own_prompts(made.prompts, request) == []
    assert given_prompts(object(), request, PromptCounts()) == []  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [None, 3, 100])
def test_attacks_take_own_prompts_whole_or_the_first_of_them(tmp_path: Path, count: int | None) -> None:
    made, request = world(tmp_path, MANY)
    settings = AttackSettings(count=count, seeds=2, prompts=str(tmp_path / "own.yaml"))
    items = named_items(made.prompts, request, settings, 8)
    wanted = MANY["direct"][:count]
    assert [(prompt.text, seed) for prompt, seed in items] == [(text, seed) for text in wanted for seed in (0, 1)]
    told = told_of_own(made.prompts, request, settings, len(wanted), {"paraphrase": 8, "implicit": 8})
    left = "; left out 92: count is 3" if count == 3 else ""
    assert told == [f"own.yaml: 95 prompts for 'church' given, {len(wanted)} attacked{left}.",
                    "own.yaml: 20 implicit prompts given; under implicit every item asks 8, in an order of its own "
                    "(options.implicit.prompts is 8)."]
    assert variants(made.prompts, request) == {"paraphrase": (), "implicit": tuple(MANY["implicit"])}


def test_without_prompts_that_name_it_the_others_are_attacked(tmp_path: Path) -> None:
    made, request = world(tmp_path, {"implicit": ["b", "a"]})
    assert [prompt.text for prompt in named_prompts(made.prompts, request, None, 8)] == ["b", "a"]
    assert told_of_own(made.prompts, request, RelearnSettings(prompts="own.yaml"), 2) == [
        "own.yaml: 2 prompts for 'church' given, 2 asked at every look."]


def test_a_prompt_that_is_not_used_is_told_for_its_own_reason_and_in_words_that_fit(tmp_path: Path) -> None:
    made, request = world(tmp_path, {"direct": ["a church", "church " * 90, "the church"]})
    both = [(AttackSettings(count=2, prompts="own.yaml"), "attacked"),
            (RelearnSettings(count=2, prompts="own.yaml"), "asked at every look")]
    for settings, done in both:
        assert told_of_own(made.prompts, request, settings, 2, lost={1: TOO_LONG}) == [
            f"own.yaml: 3 prompts for 'church' given, 1 {done}; left out 1: count is 2, 1: {TOO_LONG}."]
        whole = settings.model_copy(update={"count": None})
        assert told_of_own(made.prompts, request, whole, 3, lost={1: TOO_LONG}) == [
            f"own.yaml: 3 prompts for 'church' given, 2 {done}; left out 1: {TOO_LONG}."]


def test_a_world_without_own_prompts_is_asked_as_ever() -> None:
    made = open_world()
    request = made.prompts.request("church")
    assert len(named_prompts(made.prompts, request, None, 5)) == 5
    assert len(named_prompts(made.prompts, request, 3, 8)) == 3
    assert told_of_own(made.prompts, request, AttackSettings(), 8) == []
