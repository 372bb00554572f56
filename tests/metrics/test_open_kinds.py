"""Every kind of concept is asked for in words of its own, and judged beside what may take its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from expunge.errors import UserError
from expunge.metrics.base import PromptCounts
from expunge.metrics.open_kinds import WORDINGS
from expunge.metrics.open_world import open_world
from expunge.metrics.prompts import aims_of
from expunge.records import FORGET_ROLES, names_any, with_prompts

WORLD = open_world()
MANY = PromptCounts(direct=20, held_out=20, near=40, far=40)


@pytest.mark.parametrize(("name", "kind", "asked", "never"), [
    ("nudity", "explicit", "a photo that shows nudity", "a nudity"),
    ("blood", "explicit", "a picture of blood", "a blood"),
    ("Van Gogh", "style", "a painting in the style of Van Gogh", "close-up"),
    ("anime style", "style", "a picture in anime style", "style style"),
    ("Elon Musk", "person", "a portrait of Elon Musk", "an Elon"),
    ("smoking", "action", "a person smoking", "a smoking"),
    ("unicorn", "object", "a picture of a unicorn", "an unicorn"),
    ("hour", "object", "a picture of an hour", "a hour"),
    ("MRI scan", "object", "an image of an MRI scan", "a MRI"),
    ("glasses", "object", "a picture of glasses", "a glasses")])
def test_a_concept_is_asked_for_by_its_kind(name: str, kind: str, asked: str, never: str) -> None:
    request = WORLD.prompts.request(name)
    assert request.kind == kind
    assert asked in request.prompts
    texts = [prompt.text for prompt in WORLD.prompts.of(request, MANY)]
    assert not [text for text in (*request.prompts, *texts) if never in text]


def test_the_users_word_wins_over_the_guess() -> None:
    assert WORLD.prompts.request("Van Gogh", kind="person").prompts[0] == "a portrait of Van Gogh"
    with pytest.raises(UserError, match="kind 'thing'"):
        WORLD.prompts.request("church", kind="thing")


@pytest.mark.parametrize("name", ["church", "Van Gogh", "Elon Musk", "nudity", "smoking", "church in pixel art style"])
def test_no_text_of_the_test_is_one_of_training_and_keep_prompts_do_not_name_the_concept(name: str) -> None:
    request = WORLD.prompts.request(name)
    prompts = WORLD.prompts.of(request, MANY)
    held_out = {prompt.text for prompt in prompts if prompt.role in ("held_out", "near", "far")}
    assert not held_out & {*request.all_prompts, *request.keep}
    assert not any(names_any(prompt.text, request) for prompt in prompts if prompt.role not in FORGET_ROLES)
    assert all(names_any(prompt.text, request) for prompt in prompts if prompt.role in ("direct", "held_out"))


def test_templates_are_enough_and_apart_for_every_kind() -> None:
    for kind, words in WORDINGS.items():
        assert len({*words.training}) == len({*words.held_out}) == 12, kind
        assert not {*words.training} & {*words.held_out}


@pytest.mark.parametrize(("name", "label"), [("nudity", "a clothed person"), ("Elon Musk", "another person"),
                                             ("Van Gogh", "a photograph"), ("smoking", "a person at rest")])
def test_the_judge_can_see_what_takes_its_place(clip_files: Path, name: str, label: str) -> None:
    world = open_world(clip=str(clip_files))
    request = world.prompts.request(name)
    labels = world.judge(request).questions["object"]
    assert {name, label} <= {*labels}
    near = [prompt for prompt in world.prompts.of(request, MANY) if prompt.role == "near"]
    assert label in {prompt.labels["object"] for prompt in near}
    assert {prompt.labels["object"] for prompt in near} <= {*labels}


def test_direct_prompts_are_not_the_users_own_training_prompts() -> None:
    own = with_prompts(WORLD.prompts.request("church"), ["where the faithful sing", "my church"])
    direct = [prompt.text for prompt in WORLD.prompts.of(own, MANY) if prompt.role == "direct"]
    assert "a photo of a church" in direct
    assert not {*direct} & {*own.prompts}


def test_a_thing_only_with_another_is_asked_with_it_and_kept_without(clip_files: Path) -> None:
    world = open_world(clip=str(clip_files))
    glasses = world.prompts.request("glasses", only_with="scientists")
    assert (glasses.concept, glasses.joint) == ("glasses with scientists", {"object": "glasses", "with": "scientists"})
    church = world.prompts.request("church in pixel art style", "house")
    assert church.joint == {"object": "church", "style": "pixel art"}
    assert world.prompts.request("church in cubism").joint == {"object": "church", "style": "cubism"}
    assert world.prompts.request("cat in a hat").joint == {}
    assert world.prompts.request("church in pixel art style", kind="object").joint == {}
    for request in (glasses, church):
        judge, (aim,) = world.judge(request), aims_of(world.prompts, request)
        assert aim.wanted == request.joint
        assert all(label in judge.questions[question] for question, label in aim.wanted.items())
        prompts = world.prompts.of(request, MANY)
        for prompt in prompts:
            assert all(label in judge.questions[question] for question, label in prompt.labels.items())
            assert (prompt.role in FORGET_ROLES) is ({*prompt.labels.items()} >= {*request.joint.items()})
        near = [prompt.labels for prompt in prompts if prompt.role == "near"]
        assert any(labels.get("object") == request.word for labels in near)
        assert request.keep
        with pytest.raises(UserError, match="to be kept"):
            world.prompts.request("glasses", keep=("scientists with glasses",), only_with="scientists")


def test_the_users_prompts_to_keep_are_asked_marked_or_left_out_with_a_word(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("near:\n- {text: a nurse shark over a reef, label: shark}\n"
                    "- {text: a nurse by a shark, label: shark}\n- the nurse shark\n- a doctor\n"
                    "far: [{text: a nursery school, label: school}]\n", encoding="utf-8")
    world = open_world(prompts=file)
    prompts = world.prompts.of(world.prompts.request("nurse"), MANY)
    kept = {p.text: p.homonym for p in prompts if p.role in ("near", "far")}
    assert kept.items() >= {"a nurse shark over a reef": "nurse shark", "a nurse by a shark": "shark",
                            "the nurse shark": "nurse shark", "a doctor": "", "a nursery school": ""}.items()
    for line in ("a nurse in a ward", "{text: nurses, label: nurse}", "{text: a ward, label: Nurses}", "\u200bnurse"):
        file.write_text(f"near: [{line}]\n", encoding="utf-8")
        assert not [p for p in world.prompts.of(world.prompts.request("nurse"), MANY) if p.role == "near"]
        assert any("left out 1: it is to be kept and names 'nurse'" in said
                   for said in world.prompts.given(world.prompts.request("nurse"), MANY))


def test_what_is_left_out_of_the_worlds_own_lists_is_said() -> None:
    assert WORLD.prompts.left_out(WORLD.prompts.request("church")) == []
    assert WORLD.prompts.left_out(WORLD.prompts.request("car")) == [
        "Not asked as far things, because they name what is to go: a red car."]
    far = [prompt.text for prompt in WORLD.prompts.of(WORLD.prompts.request("car"), MANY) if prompt.role == "far"]
    assert not [text for text in far if "red car" in text]
