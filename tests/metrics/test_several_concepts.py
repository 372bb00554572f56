"""Several concepts in one request: what every world owes it, and how its images are counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rated import rated

from expunge.errors import ConfigError, ExpungeError, UserError
from expunge.metrics.base import Aim, PromptCounts, aim_of
from expunge.metrics.open_prompts import read_prompts
from expunge.metrics.open_world import open_world
from expunge.metrics.prompts import aims_of
from expunge.metrics.rates import agreement
from expunge.metrics.reliability import evaluation_warnings, missing_roles
from expunge.records import FORGET_ROLES, KEEP_ROLES, Detection, ImageRecord, Prompt, Role, Sampler, Score, mentions
from expunge.tiny.emoji import emoji_world
from expunge.tiny.world import STYLES, THINGS, near

WORLDS = [emoji_world(), open_world()]
WORLD = pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
SETS = pytest.mark.parametrize("concepts", [("church", "bomb"), ("church", "house", "castle"), ("dog", "car", "apple")],
                               ids="+".join)


@WORLD
@SETS
def test_a_request_asks_for_each_concept_and_keeps_none(world: Any, concepts: tuple[str, ...]) -> None:
    anchors = ["rose", *[""] * (len(concepts) - 1)]
    request = world.prompts.request(concepts, anchors)
    assert request.concepts == concepts
    assert [target.anchor for target in request.targets] == anchors
    for target in request.targets:
        assert all(mentions(prompt, target.concept) for prompt in target.prompts)
        others = {*concepts} - {target.concept}
        assert not [prompt for prompt in target.prompts if any(mentions(prompt, other) for other in others)]
    assert not [text for text in request.keep if any(mentions(text, name) for name in concepts)]


@WORLD
@SETS
def test_prompts_ask_for_one_concept_each_in_equal_shares_and_keep_the_rest(world: Any, concepts: tuple[str, ...]
                                                                           ) -> None:
    request, counts = world.prompts.request(concepts, ["rose"] * len(concepts)), PromptCounts(direct=5, near=20, far=16)
    prompts, aims = world.prompts.of(request, counts), aims_of(world.prompts, request)
    assert aims == tuple(Aim(name, world.prompts.question(name)) for name in concepts)
    assert len({prompt.text for prompt in prompts}) == len(prompts)
    for concept in concepts:
        own = [p for p in prompts if p.role in FORGET_ROLES and aim_of(p, aims).concept == concept]
        assert sum(p.role == "direct" for p in own) == 5
        assert sum(p.role == "held_out" for p in own) == 12
        assert all(mentions(p.text, concept) for p in own if p.role in ("direct", "held_out"))
    kept = [p for p in prompts if p.role in KEEP_ROLES]
    assert {"near", "far", "empty"} <= {p.role for p in kept}
    said_in_keep = [text for p in kept for text in (p.text, *p.labels.values())]
    assert not [text for text in said_in_keep if any(mentions(text, name) for name in concepts)]
    assert world.prompts.of(request, counts) == prompts


@WORLD
def test_a_single_name_is_the_same_with_and_without_a_list(world: Any) -> None:
    request = world.prompts.request("church", "house")
    assert world.prompts.request(["church"], ["house"]) == request
    assert request.also == ()
    assert request.alone() == (request,)


@WORLD
@pytest.mark.parametrize(("concept", "anchor", "keep", "says"), [
    (["church", "church"], "", (), "twice"), (["church", "bomb"], "house", (), "1 anchor for 2"),
    (["church", "bomb"], ["bomb", "rose"], (), "to be unlearned"), (["church", "bomb"], "", ("bomb",), "to be kept"),
    (["church", ""], "", (), "empty concept"), ("church", "church", (), "own anchor")])
def test_contradictions_are_refused_by_every_world(world: Any, concept: Any, anchor: Any, keep: Any, says: str) -> None:
    with pytest.raises(UserError, match=says):
        world.prompts.request(concept, anchor, keep)


def test_emoji_neighbours_that_go_too_are_not_kept() -> None:
    world = emoji_world()
    request = world.prompts.request(["church", "house"])
    assert request.keep == ("an icon of a castle", "an icon of a hospital")
    prompts = world.prompts.of(request, PromptCounts(near=30, far=30))
    assert {p.labels["object"] for p in prompts if p.role == "near"} == {"castle", "hospital"}
    far = {p.labels["object"] for p in prompts if p.role == "far"}
    assert far
    assert not {THINGS[name].kind for name in far} & {"building"}
    both = world.prompts.of(world.prompts.request(["church", "bomb"]), PromptCounts(far=60))
    assert not {THINGS[p.labels["object"]].kind for p in both if p.role == "far"} & {"building", "weapon"}
    all_gone = world.prompts.of(world.prompts.request(["guitar", "violin"]), PromptCounts())
    assert not [p for p in all_gone if p.role == "near"]


def test_emoji_a_thing_and_a_style_share_no_prompt() -> None:
    world = emoji_world()
    request = world.prompts.request(["church", "flat"], ["house", "3d"])
    assert not [text for text in request.prompts if mentions(text, "flat")]
    assert not [text for text in request.also[0].prompts if mentions(text, "church")]
    prompts, aims = world.prompts.of(request, PromptCounts(near=40)), aims_of(world.prompts, request)
    assert {aim.question for aim in aims} == {"object", "style"}
    for prompt in prompts:
        gone = {prompt.labels.get("object"), prompt.labels.get("style")} & {"church", "flat"}
        assert gone == ({aim_of(prompt, aims).concept} if prompt.role in FORGET_ROLES else set())
    names = {name for p in prompts if p.role == "near" for name in p.labels.values()}
    assert {*near("church"), *STYLES} - {"flat"} <= names
    assert not [p for p in prompts if p.role == "style"]
    assert {aim_of(p, aims).concept for p in prompts if p.role == "implicit"} == {"church"}


def test_emoji_all_styles_leave_nothing_to_keep_and_no_thing_to_show() -> None:
    world = emoji_world()
    prompts = world.prompts.of(world.prompts.request(tuple(STYLES)), PromptCounts())
    assert {p.role for p in prompts} == {"direct", "held_out", "paraphrase", "empty"}
    with pytest.raises(UserError, match="every style goes"):
        world.prompts.request(["church", *STYLES])
    with pytest.raises(UserError, match="did you mean 'bomb'"):
        world.prompts.request(["church", "bomp"])


def test_the_users_file_says_which_concept_a_prompt_asks_for(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text("paraphrase: [{text: a chapel, label: church}, {text: a grenade, label: bomb}]\n"
                    "near: [{text: a church mouse, label: mouse}, {text: a mosque, label: mosque}, a bombardment]\n")
    world = open_world(prompts=file)
    prompts = world.prompts.of(world.prompts.request(["church", "bomb"]), PromptCounts())
    assert [(p.text, p.labels["object"]) for p in prompts if p.role == "paraphrase"] == [
        ("a chapel", "church"), ("a grenade", "bomb")]
    assert [(p.text, p.homonym) for p in prompts if p.role == "near"] == [
        ("a church mouse", "church mouse"), ("a mosque", ""), ("a bombardment", "")]
    file.write_text("paraphrase: [a chapel, {text: a grenade, label: bom}]\n")
    with pytest.raises(ConfigError) as error:
        read_prompts(file, ("church", "bomb"))
    assert "prompt 1: asks for '', which is none of church, bomb" in str(error.value)
    assert "prompt 2: asks for 'bom'" in str(error.value)


def test_a_clip_judges_among_all_concepts_and_anchors(clip_files: Path) -> None:
    world = open_world(clip=str(clip_files))
    labels = world.judge(world.prompts.request(["church", "bomb"], ["house", "ball"])).questions["object"]
    assert labels[:4] == ("church", "bomb", "house", "ball")


AIMS = (Aim("church", "object"), Aim("flat", "style"))


def said(role: Role, text: str, asked: dict[str, str], seed: int = 0, **answers: str) -> tuple[ImageRecord, Detection]:
    shot = ImageRecord(prompt=Prompt(text=text, role=role, labels=asked), seed=seed, sampler=Sampler(), model="m")
    return shot, Detection(shot=shot.key, detector="d", answers=answers)


CHURCH, FLAT = {"object": "church", "style": "3d"}, {"object": "dog", "style": "flat"}
JUDGED = [said("direct", "a", CHURCH, object="church", style="3d"),
          said("direct", "b", CHURCH, object="dog", style="flat"),
          said("held_out", "c", CHURCH, style="flat"), said("direct", "d", FLAT, object="church", style="flat"),
          said("direct", "e", FLAT, object="dog", style="flat"), said("direct", "f", FLAT, object="dog", style="3d")]


def test_found_is_counted_over_all_and_over_each() -> None:
    scores = rated(JUDGED, AIMS)
    counts = {name: (score.numerator, score.n, score.left_out["abstained"]) for name, score in scores.items()
              if name.startswith("found/")}
    assert counts == {
        "found/direct": (3, 5, 0), "found/held_out": (None, 0, 1), "found/all": (3, 5, 1),
        "found/direct/church": (1, 2, 0), "found/held_out/church": (None, 0, 1), "found/all/church": (1, 2, 1),
        "found/direct/flat": (2, 3, 0), "found/all/flat": (2, 3, 0)}
    assert scores["found/all"].denominator == "images of prompts for church, flat on which the judge gave an answer"
    assert scores["found/all/flat"].denominator == "images of prompts for flat on which the judge gave an answer"
    assert (scores["abstained/all/church"].numerator, scores["abstained/all/church"].n) == (1, 3)
    assert "original/found/all/flat" in rated(JUDGED, AIMS)
    alone = rated([item for item in JUDGED if item[0].prompt.labels == CHURCH], AIMS[:1])
    assert alone["found/all"].numerator == 1
    assert "found/all/church" not in alone


def test_what_stays_must_be_right_under_every_question_at_stake() -> None:
    asked = {"object": "house", "style": "3d", "background": "blue"}
    kept = [said("near", "a", asked, object="house", style="3d"),
            said("near", "b", asked, object="house", style="flat"),
            said("near", "c", asked, object="dog"), said("near", "d", asked, object="house"),
            said("far", "e", asked, object="house", style="3d", background="blue")]
    scores = rated(kept, AIMS)
    near_ = scores["retained/near"]  # c is wrong whatever its style is; of d nobody knows
    assert (near_.numerator, near_.n, near_.left_out["abstained"]) == (1, 3, 1)
    assert near_.denominator == "images on which the judge gave an answer that decides about object and style"
    assert "retained/keep:style" not in scores
    assert scores["retained/keep:background"].n == 1
    assert rated(kept, AIMS[:1])["retained/near"].numerator == 3


def test_the_null_control_hears_any_of_the_concepts() -> None:
    asked = {"object": "house", "style": "3d"}
    keep = [said("far", "a", asked, object="church", style="3d"), said("far", "b", asked, object="house", style="flat"),
            said("far", "c", asked, object="house", style="3d"), said("far", "d", asked, object="house")]
    score = rated(keep, AIMS)["found/keep"]
    assert (score.numerator, score.n, score.left_out["abstained"]) == (2, 3, 1)
    assert "church or flat" in score.title


def test_change_is_measured_for_all_and_for_each() -> None:
    before = [said("direct", item.prompt.text, item.prompt.labels, **item.prompt.labels) for item, _ in JUDGED]
    change = rated(JUDGED, AIMS, before)
    assert {name: score.n for name, score in change.items() if name.startswith("change/")} == {
        "change/found/all": 5, "change/found/all/church": 2, "change/found/all/flat": 3}
    assert change["change/found/all"].value == pytest.approx(-2 / 5)
    assert change["change/found/all/church"].value == pytest.approx(-1 / 2)
    assert change["change/found/all/church"].left_out == {"no answer on one side": 1}


def test_a_prompt_that_asks_for_nobody_knows_what_is_a_worlds_mistake() -> None:
    with pytest.raises(ExpungeError, match="for which of several concepts 'x' asks"):
        aim_of(Prompt(text="x", role="direct", labels={"object": "dog"}), AIMS)
    assert aim_of(Prompt(text="x", role="direct"), AIMS[:1]) == AIMS[0]


def test_each_concept_has_warnings_of_its_own() -> None:
    seldom = [Score(name="original/found/direct", title="", value=0.9, n=20),
              Score(name="original/found/direct/church", title="", value=1.0, n=10),
              Score(name="original/found/direct/flat", title="", value=0.4, n=10)]
    told = evaluation_warnings(seldom, ("church", "flat"))
    assert len(told) == 1
    assert told[0].startswith("The judge finds “flat” in only 40%")
    few = [Score(name=f"found/all/{name}", title="", value=0.0, n=n) for name, n in (("church", 90), ("flat", 8))]
    [line] = evaluation_warnings(few, ("church", "flat"))
    assert line.startswith("Only 8 images that ask for “flat”")
    seeds = [score.model_copy(update={"prompts": 4}) for score in few]
    assert [line.split(":")[0] for line in evaluation_warnings(seeds, ("church", "flat"))] == [
        "Only 90 images of 4 prompts that ask for “church” could be judged",
        "Only 8 images of 4 prompts that ask for “flat” could be judged"]
    prompts = [Prompt(text="a", role="direct", labels=CHURCH), Prompt(text="b", role="implicit", labels=CHURCH),
               Prompt(text="c", role="direct", labels=FLAT)]
    assert "“flat” has no implicit prompts: what is said of these is about the other concepts." in \
        missing_roles(prompts, AIMS)


def test_judges_agree_on_what_was_kept_by_the_question_of_what_goes() -> None:
    """A style goes: both see the house, each another style."""
    prompt = Prompt(text="a flat house", role="near", labels={"object": "house", "style": "flat"})
    shot = ImageRecord(prompt=prompt, seed=0, sampler=Sampler(), model="m")
    one, other = ([(shot, Detection(shot=shot.key, detector="d", answers={"object": "house", "style": style}))]
                  for style in ("flat", "3d"))
    style, thing = (next(score for score in agreement(one, other, (aim,)) if score.name == "agreement/kept")
                    for aim in (Aim("pixel art", "style"), Aim("church", "object")))
    assert (style.numerator, style.n) == (0, 1)
    assert (thing.numerator, thing.n) == (1, 1)
