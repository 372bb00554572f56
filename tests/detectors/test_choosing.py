"""Each part of a world is replaced by itself, by its registered name; the others stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from expunge.attacks.settings import AttackSettings
from expunge.detectors.choosing import world_for
from expunge.errors import ConfigError, UserError
from expunge.evaluation import EvaluateSettings, planned_prompts
from expunge.evaluation.run import instruments
from expunge.metrics.base import PromptCounts
from expunge.metrics.imagenet import second_missing
from expunge.metrics.prompts import Prompts
from expunge.metrics.reference import Statistics, write_statistics
from expunge.metrics.worlds import Judges, Unknown, World, world_of
from expunge.records import KEEP_ROLES
from expunge.registry import DETECTORS, DISTANCES, FEATURES, PROMPTS, REFERENCES, WORLDS
from expunge.tiny.emoji import drawings, emoji_world

FEW = PromptCounts(direct=3, held_out=1, paraphrase=0, implicit=0, near=3, far=3, never_seen=0)
PARTS = ("prompts", "judges", "unknown", "features", "distance", "clip", "reference")


def emoji(**settings: Any) -> World:
    return world_for("emoji", "embedded", EvaluateSettings(**settings))


def same(world: World, other: World) -> set[str]:
    """Which of two worlds' parts are made alike."""
    names: dict[str, Callable[[World], Any]] = {
        "prompts": lambda one: one.prompts.name, "judges": lambda one: type(one.judges),
        "unknown": lambda one: type(one.unknown), "features": lambda one: one.features().name,
        "distance": lambda one: one.distance().name, "clip": lambda one: getattr(one.clip(), "name", None),
        "reference": lambda one: getattr(one.reference(), "source", None)}
    return {part for part in PARTS if names[part](world) == names[part](other)}


@pytest.mark.parametrize(("settings", "other"), [
    ({}, set()), ({"prompts_of": "open"}, {"prompts"}), ({"distance": "ssim"}, {"distance"}),
    ({"detector": "emoji-judge", "detector_options": {"rule": {"rule": "top"}}}, {"judges", "unknown"}),
    ({"reference": "emoji-drawings"}, set())])
def test_one_part_is_replaced_and_the_others_stay(settings: dict[str, Any], other: set[str]) -> None:
    assert same(emoji(**settings), emoji_world()) == set(PARTS) - other


def test_no_part_has_more_than_six_members() -> None:
    for part in (Prompts, Judges, Unknown):
        assert len([name for name in vars(part) if not name.startswith("_")]) <= 6, part


@pytest.mark.parametrize("name", PROMPTS.names())
def test_every_registered_prompts_ask_for_the_concept_by_it_and_for_others_without_it(name: str) -> None:
    asks = world_for("emoji", "embedded", AttackSettings(prompts_of=name)).prompts
    assert asks.name == name
    request = asks.request("church", "house")
    prompts = asks.of(request, FEW)
    assert prompts == asks.of(request, FEW)
    assert len({prompt.text for prompt in prompts}) == len(prompts)
    assert {prompt.role for prompt in prompts} >= {"direct", "held_out", "near", "far", "empty"}
    assert {prompt.stratum for prompt in prompts} <= {*asks.strata, ""}
    question = asks.question("church")
    for prompt in prompts:
        assert ("church" in prompt.text) == (prompt.role in ("direct", "held_out")), prompt
        assert (prompt.labels.get(question) == "church") == (prompt.role in ("direct", "held_out")), prompt
    assert all(texts for texts in asks.vocabulary().values())
    assert [*asks.vocabulary(["apple"])] == ["apple"]


@pytest.mark.parametrize("name", WORLDS.names())
def test_every_registered_world_is_a_bundle_of_parts(name: str) -> None:
    world = world_of(name, "a model")
    assert world.name == name
    assert world.prompts.name in PROMPTS.names()
    assert not callable(world.judges)
    assert all(callable(part) for part in (world.features, world.distance, world.clip, world.reference))


@pytest.mark.parametrize("name", REFERENCES.names())
def test_every_registered_reference_is_of_the_features_that_it_says(name: str) -> None:
    made = REFERENCES.get(name)()
    assert (made.covariance.shape, made.sample.shape[1]) == ((len(made.mean), len(made.mean)), len(made.mean))
    assert made.n > 1
    assert made.source


@pytest.mark.parametrize("known", [WORLDS, PROMPTS, DETECTORS, FEATURES, DISTANCES, REFERENCES],
                         ids=lambda known: known.kind)
def test_the_parts_have_groups_of_entry_points_and_a_line_of_help_each(known: Any) -> None:
    assert known.group == f"expunge.{known.verb.split()[-1]}"
    for name in known.names():
        assert known.help(name)
        assert callable(known.get(name))


def test_ones_own_prompts_are_asked_of_a_model_with_a_world_of_its_own(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("direct: [my church]\nfar: [{text: a dog, label: dog}]\n", encoding="utf-8")
    settings = EvaluateSettings(prompts_of="open", prompts=str(file), counts=FEW)
    world = world_for("emoji", "embedded", settings)
    request = world.prompts.request("church")
    prompts = planned_prompts(world.prompts, request, settings)
    assert [prompt.text for prompt in prompts if prompt.role == "direct"] == ["my church"]
    assert [prompt.labels for prompt in prompts if prompt.role in KEEP_ROLES] == [{"object": "dog"}]
    tools = instruments(world, request, prompts, settings)
    assert tools.judge.name == emoji_world().judge(request).name
    assert world.completes.name == "emoji"  # what is trained on does not go by what is measured with
    with pytest.raises(UserError, match=r"the prompts 'emoji' take none.*as `open` does"):
        emoji(prompts_of="emoji", prompts=str(file))


def test_a_clip_judges_among_what_prompts_name_that_list_no_classes(clip_files: Path) -> None:
    world = world_for("open", "a model", AttackSettings(prompts_of="emoji", clip=str(clip_files)))
    judge = world.judge(world.prompts.request("church"))
    assert {"church", "house", "castle"} < {*judge.questions["object"]}
    assert "pixel art" in judge.questions["style"]


def test_a_reference_is_of_the_chosen_features_or_refused_or_told(tmp_path: Path) -> None:
    file = tmp_path / "drawings.safetensors"
    write_statistics(file, Statistics(drawings()))
    for reference in ("emoji-drawings", str(file)):
        made = emoji(reference=reference).reference()
        assert made is not None
        assert torch.equal(made.mean, drawings().mean)
    with pytest.raises(UserError, match="unknown reference 'coco'"):
        emoji(reference="coco").reference()
    if second_missing():
        pytest.skip(second_missing())
    for reference, says in (("emoji-drawings", "is of the features emoji-judge@"), (str(file), "was made with emoji")):
        with pytest.raises(UserError, match=says):
            emoji(features="imagenet", reference=reference).reference()
    settings = EvaluateSettings(features="imagenet", counts=FEW)
    world = emoji(features="imagenet")
    request = world.prompts.request("church")
    tools = instruments(world, request, planned_prompts(world.prompts, request, settings), settings)
    assert tools.real is None
    assert any("no statistics of real images: those of the world are of emoji-judge@" in why for why in tools.missing)


@pytest.mark.parametrize(("settings", "says"), [
    ({"features": "inception"}, r"needs a file: inception.*--features-option files.inception=PATH"),
    ({"features": "inceptoin"}, "did you mean 'inception'"), ({"distance": "lpip"}, "did you mean 'lpips"),
    ({"prompts_of": "opne"}, "did you mean 'open'"), ({"second": "emoji-juge"}, "did you mean 'emoji-judge'"),
    ({"features_options": {"resizer": "tf299"}}, "--features NAME with them"),
    ({"distance_options": {"modified": True}}, "--distance NAME with them"),
    ({"second_options": {"question": "style"}}, "--second NAME with them")])
def test_what_is_not_there_says_what_to_give(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        emoji(**settings).features()


def test_options_that_a_part_does_not_have_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"option 'resize' of feature 'inception'.*files.ROLE, resizer, modified"):
        emoji(features="inception", features_options={"resize": 3})
    with pytest.raises(ConfigError, match="files of distance"):
        emoji(distance="lpips", distance_options={"files": "here"})


def test_a_clip_that_was_given_to_judge_gives_features_and_distance_by_name(clip_files: Path) -> None:
    settings = EvaluateSettings(clip=str(clip_files), features="clip", distance="clip")
    world = world_for("open", "a model", settings)
    assert world.features().name.startswith("clip-features:tiny-clip@")
    assert world.distance().name.startswith("clip-distance:tiny-clip@")


def test_a_second_detector_confirms_and_is_never_the_first() -> None:
    top = {"rule": {"rule": "top"}}
    plain = emoji_world()
    request = plain.prompts.request("church")
    if not second_missing():
        world = emoji(second="imagenet-judge", second_options=top)
        assert world.judge(request).name == plain.judge(request).name
        second = world.second(request)
        assert second is not None
        assert second.name.startswith("imagenet-judge@")
        assert type(world.unknown) is type(plain.unknown)
    with pytest.raises(UserError, match=r"emoji-judge@.* to confirm what it finds itself"):
        emoji(second="emoji-judge", second_options=top).second(request)
    with pytest.raises(UserError, match="to confirm what it finds itself"):
        emoji(detector="emoji-judge", detector_options=top, second="emoji-judge", second_options=top).second(request)


def test_a_world_of_prompts_alone_is_measured_with_parts_by_their_names() -> None:
    bare = World("bare", emoji_world().prompts)
    request = bare.prompts.request("church")
    for ask in (lambda: bare.judge(request), bare.features):
        with pytest.raises(UserError, match=r"--detector NAME|--features NAME"):
            ask()
    settings = EvaluateSettings(counts=FEW, detector="emoji-judge", detector_options={"rule": {"rule": "top"}},
                                features="emoji-judge", reference="emoji-drawings")
    world = world_for("bare", "a model", settings, bare)
    tools = instruments(world, request, planned_prompts(world.prompts, request, settings), settings)
    assert tools.real is not None
    assert tools.distance.name == "1-ssim"
    assert tools.clip is None
