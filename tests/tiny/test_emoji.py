"""The embedded world's requests and prompts."""

from __future__ import annotations

import pytest

from expunge.errors import UserError
from expunge.metrics.base import PromptCounts
from expunge.tiny.emoji import emoji_world
from expunge.tiny.world import BACKGROUNDS, NEVER_SEEN, SEEN, STYLES, THINGS, near

WORLD = emoji_world()


@pytest.mark.parametrize("concept", [*SEEN, *STYLES, NEVER_SEEN[0]])
def test_every_concept_has_a_request_and_prompts(concept):
    request = WORLD.prompts.request(concept)
    assert all(concept in prompt for prompt in request.prompts)
    assert len(set(request.prompts)) == len(request.prompts)
    prompts = WORLD.prompts.of(request, PromptCounts())
    roles = {prompt.role for prompt in prompts}
    assert {"direct", "held_out", "far", "never_seen", "empty"} <= roles
    assert ("near" in roles) == (concept not in NEVER_SEEN)
    assert len({prompt.text for prompt in prompts}) == len(prompts)


def test_prompts_ask_for_what_their_role_says():
    prompts = WORLD.prompts.of(WORLD.prompts.request("church"), PromptCounts())
    words = {role: [p for p in prompts if p.role == role]
             for role in ("held_out", "paraphrase", "implicit", "near", "far")}
    assert all("church" in p.text for p in words["held_out"])
    assert not any("church" in p.text for p in words["paraphrase"] + words["implicit"])
    assert all(any(s in p.text for s in THINGS["church"].synonyms) for p in words["paraphrase"])
    assert all(any(h in p.text for h in THINGS["church"].hints) for p in words["implicit"])
    assert {p.labels["object"] for p in words["near"]} <= set(near("church"))
    assert not {p.labels["object"] for p in words["far"]} & {"church", *near("church")}


def test_keep_prompts_never_show_a_style_that_is_erased():
    prompts = WORLD.prompts.of(WORLD.prompts.request("pixel art"), PromptCounts(near=20, far=20))
    kept = [p for p in prompts if p.role in ("near", "far", "never_seen")]
    assert kept
    assert not any(p.labels.get("style") == "pixel art" or "pixel art" in p.text for p in kept)
    assert not {p.labels.get("object") for p in kept if p.role != "never_seen"} & set(NEVER_SEEN)


def test_style_prompts_ask_for_every_style_of_other_things():
    every = WORLD.prompts.of(WORLD.prompts.request("church"), PromptCounts(style=40))
    prompts = [p for p in every if p.role == "style"]
    assert len(prompts) == 40
    assert {p.labels["style"] for p in prompts} == set(STYLES)
    assert not {p.labels["object"] for p in prompts} & {"church", *NEVER_SEEN}
    assert "style" not in {p.role for p in WORLD.prompts.of(WORLD.prompts.request("flat"), PromptCounts(style=40))}


def test_things_to_keep_become_prompts_with_the_right_article():
    request = WORLD.prompts.request("church", keep=("apple", "house", "flat"))
    assert request.keep == ("an icon of an apple", "an icon of a house", "an emoji in flat style")


def test_one_judge_serves_all_requests():
    assert WORLD.judge(WORLD.prompts.request("church")) is WORLD.judge(WORLD.prompts.request("flat"))


def test_a_longer_list_begins_with_the_shorter():
    request = WORLD.prompts.request("bomb")
    short = [p for p in WORLD.prompts.of(request, PromptCounts(near=4)) if p.role == "near"]
    long = [p for p in WORLD.prompts.of(request, PromptCounts(near=12)) if p.role == "near"]
    assert long[:4] == short


def test_training_prompts_are_not_evaluated_as_unseen():
    request = WORLD.prompts.request("church")
    many = PromptCounts(direct=200, held_out=100, near=200, far=400)
    asked = {p.text for p in WORLD.prompts.of(request, many, ("all",))}
    assert not asked & {*request.prompts, *request.keep}
    retained = {text for texts in WORLD.prompts.vocabulary().values() for text in texts}
    assert not asked & retained


def test_every_thing_of_the_world_is_asked_at_least_once_and_every_way_of_asking_too():
    for concept in SEEN:
        prompts = WORLD.prompts.of(WORLD.prompts.request(concept), PromptCounts())
        assert {p.labels["object"] for p in prompts if "object" in p.labels and p.role in ("near", "far")} == \
            {*SEEN} - {concept}
        for role in ("near", "far"):
            own = {p.stratum for p in prompts if p.role == role}
            assert own == {name for name, stratum in WORLD.prompts.strata.items() if stratum.asked}, (concept, role)


def test_plain_prompts_name_neither_style_nor_background():
    plain = [p for p in WORLD.prompts.of(WORLD.prompts.request("church"), PromptCounts(), ("name", "short", "hands"))
             if p.role in ("direct", "near", "far")]
    words = [word for names in STYLES.values() for word in names] + list(BACKGROUNDS)
    assert plain
    assert not [p.text for p in plain if any(f" {word} " in f" {p.text} " for word in words)]
    assert all(set(p.labels) == {"object"} for p in plain)


def test_two_things_in_one_prompt_name_both_and_ask_for_the_second_apart():
    every = WORLD.prompts.of(WORLD.prompts.request("church"), PromptCounts(direct=8), ("two",))
    two = [p for p in every if p.role == "direct"]
    assert len(two) == 8
    assert all("church" in p.text and p.beside in p.text and p.labels["object"] == "church" for p in two)


def test_an_unknown_way_of_asking_is_refused():
    with pytest.raises(UserError, match="unknown stratum 'shouted'"):
        WORLD.prompts.of(WORLD.prompts.request("church"), PromptCounts(), ("shouted",))


def test_judge_question_follows_the_concept():
    assert WORLD.prompts.question("church") == "object"
    assert WORLD.prompts.question("pixel art") == "style"


@pytest.mark.parametrize(("arguments", "words"), [
    ({"concept": "chruch"}, "church"),
    ({"concept": "church", "keep": ("church",)}, "kept"),
    ({"concept": "church", "anchor": "church"}, "anchor"),
    ({"concept": "church", "anchor": "hous"}, "house"),
    ({"concept": ""}, "empty concept"),
])
def test_bad_requests_are_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        WORLD.prompts.request(**arguments)
