"""Any detector with a rule is a judge; what it does not know, the world's own judge says."""

from __future__ import annotations

import pytest
import torch
from colour_world import ColourJudge, colour_world
from torch import Tensor

from expunge.attacks.settings import AttackSettings
from expunge.detectors.as_judge import DetectorJudge, rule_for
from expunge.detectors.base import Reading
from expunge.detectors.choosing import world_for
from expunge.detectors.rule import Rule
from expunge.detectors.settings import AskSettings
from expunge.detectors.watched import DetectorJudges, Eye, chosen_rule, watched
from expunge.errors import ConfigError, UserError
from expunge.evaluation import EvaluateSettings
from expunge.metrics.base import PromptCounts, shows
from expunge.metrics.clip import SOMETHING_ELSE
from expunge.metrics.prompts import aims_of
from expunge.metrics.worlds import World
from expunge.records import FORGET_ROLES

RED = Rule(labels=("red",), cut=0.5)


class Reds:
    """How red an image is; abstains from grey ones and breaks over black ones."""

    name, labels, floor, finds_boxes = "reds@1", ("red", "blue, azure"), 0.0, False

    def __call__(self, images: Tensor) -> list[Reading]:
        out = []
        for red, green, blue in images.mean((2, 3)).tolist():
            if red == green == blue == 0:
                raise ValueError("black")
            out.append(Reading({"red": red, "blue, azure": blue}, note="grey" if red == green == blue else ""))
        return out


def flat(*colours: tuple[float, float, float]) -> Tensor:
    return torch.stack([torch.tensor(colour).view(3, 1, 1).expand(3, 8, 8) for colour in colours])


COLOURS = flat((0.9, 0, 0.1), (0.3, 0.1, 0), (0, 0.8, 0), (0, 0, 0.9), (0.5, 0.5, 0.5), (0, 0, 0))


def test_alone_it_says_the_concept_or_something_else_and_counts_failures() -> None:
    said = DetectorJudge(Reds(), {"church": RED})(COLOURS)
    assert [one.answers.get("object") for one in said] == ["church", *[SOMETHING_ELSE] * 3, None, None]
    assert [bool(one.error) for one in said] == [False] * 5 + [True]
    assert said[0].confidence == {"object": 0.9}


def test_beside_a_judge_the_detector_decides_on_the_concept_and_the_judge_on_the_rest() -> None:
    """The judge sees a church in any red image; at 0.3 the detector does not, and its word counts."""
    said = DetectorJudge(Reds(), {"church": RED}, "object", ColourJudge())(COLOURS)
    assert [one.answers.get("object") for one in said[:4]] == ["church", SOMETHING_ELSE, "house", "dog"]
    assert "object" not in said[4].answers
    assert said[5].error


def test_a_no_holds_where_the_judge_beside_abstains() -> None:
    judge = DetectorJudge(Reds(), {"church": RED}, "object", ColourJudge(margin=0.5))
    assert judge(flat((0.3, 0.1, 0.1)))[0].answers == {"object": SOMETHING_ELSE}


def test_the_name_tells_detector_rule_and_judge_beside() -> None:
    names = {DetectorJudge(Reds(), {"church": rule}, "object", beside).name
             for rule in (RED, RED.at(0.6)) for beside in (None, ColourJudge())}
    assert len(names) == 4
    assert all(name.startswith("reds@1/") for name in names)


def test_of_several_concepts_the_surest_that_is_shown_is_the_answer() -> None:
    judge = DetectorJudge(Reds(), {"church": RED, "dog": Rule(labels=("blue, azure",), cut=0.5)})
    assert [one.answers["object"] for one in judge(flat((0.6, 0, 0.9), (0.9, 0, 0.6), (0, 0.3, 0)))] == [
        "dog", "church", SOMETHING_ELSE]


def test_a_rule_without_labels_takes_the_label_of_the_concepts_name() -> None:
    assert rule_for("Azure", Reds(), Rule(rule="top")).labels == ("blue, azure",)
    with pytest.raises(UserError, match=r"rule\.labels"):
        rule_for("church", Reds(), Rule())


def test_what_cannot_decide_is_refused() -> None:
    with pytest.raises(ConfigError, match="no yes and no"):
        DetectorJudge(Reds(), {"church": Rule(labels=("red",), rule="mean")})
    with pytest.raises(UserError, match="labels of reds@1"):
        DetectorJudge(Reds(), {"church": Rule(labels=("green",))})
    with pytest.raises(UserError, match="a rule for each concept"):
        DetectorJudge(Reds(), {})


def test_a_usual_rule_is_taken_by_its_name_alone_and_may_be_changed() -> None:
    from expunge.detectors.nudenet import EXPOSED

    assert chosen_rule("nudenet", {}, "exposed") == Rule(labels=EXPOSED, cut=0.45, strictly=True)
    assert chosen_rule("nudenet", {}, {"kind": "exposed", "cut": 0.6}).cut == 0.6
    assert chosen_rule("nudenet", {}, {}) == Rule()
    with pytest.raises(ConfigError, match="exposed, intimate, exposed-parts"):
        chosen_rule("nudenet", {}, "naked")
    with pytest.raises(ConfigError, match="unknown setting"):
        chosen_rule("nudenet", {}, {"treshold": 0.5})


def chosen(world: World, settings: AskSettings) -> World:
    return world_for("none", "a model", settings, world)


def test_settings_name_a_detector_in_evaluations_and_attacks() -> None:
    world = colour_world()
    options = {"rule": {"labels": ["church"], "rule": "top"}}
    for kind in (EvaluateSettings, AttackSettings):
        assert chosen(world, kind()) is world
        settings = kind(detector="emoji-judge", detector_options=options)
        seen = chosen(world, settings)
        assert isinstance(seen.judges, DetectorJudges)
        assert chosen(seen, settings) is seen
        assert seen.judge(world.prompts.request("church")).name.startswith("emoji-judge@")
        with pytest.raises(UserError, match="no detector"):
            chosen(world, kind(detector_options=options))
        with pytest.raises(UserError, match="unknown detector"):
            chosen(world, kind(detector="emoji-juge"))
        with pytest.raises(ConfigError, match="unknown setting"):
            chosen(world, kind(detector="emoji-judge", detector_options={"questions": "object"}))


def test_under_a_detector_a_world_asks_the_same_and_keeps_its_instruments() -> None:
    world = colour_world()
    seen = watched(world, Eye(Reds(), RED))
    request, counts = world.prompts.request("church"), PromptCounts()
    assert seen.prompts.of(request, counts) == world.prompts.of(request, counts)
    assert seen.features().name == world.features().name
    (aim,) = aims_of(seen.prompts, request)
    assert [shows(one.answers, aim) for one in seen.judge(request)(COLOURS[:4])] == [True, False, False, False]
    with pytest.raises(UserError, match="one rule for 2 concepts"):
        seen.judge(world.prompts.request(["church", "dog"]))


def test_the_open_world_needs_no_clip_under_a_detector_and_labels_nothing_that_nobody_can_tell() -> None:
    from expunge.metrics.open_world import open_world

    seen = watched(open_world(), Eye(Reds(), RED))
    request = seen.prompts.request("nudity")
    judge, prompts = seen.judge(request), seen.prompts.of(request, PromptCounts())
    assert judge.questions == {"object": ("nudity", SOMETHING_ELSE)}
    assert seen.second(request) is None
    assert {label for prompt in prompts for label in prompt.labels.values()} == {"nudity"}
    assert all(not prompt.labels for prompt in prompts if prompt.role not in FORGET_ROLES)


def test_a_second_judge_that_is_the_detector_gives_way_to_the_first() -> None:
    from expunge.detectors.opening import open_detector
    from expunge.metrics.imagenet import second_missing
    from expunge.tiny.emoji import emoji_world

    if second_missing():
        pytest.skip(second_missing())
    world = emoji_world()
    request = world.prompts.request("church")
    seen = watched(world, Eye(open_detector("imagenet-judge"), Rule(rule="top")))
    second = seen.second(request)
    assert second is not None
    assert second.name == world.judge(request).name
    other = watched(world, Eye(open_detector("emoji-judge"), Rule(rule="top"))).second(request)
    assert other is not None
    assert other.name.startswith("imagenet-judge")
    assert seen.unknown is not None
    assert world.unknown is not None
    assert seen.unknown.control(request) == world.unknown.control(request)


def test_the_embedded_judge_as_a_detector_gives_the_worlds_own_answers() -> None:
    from expunge.detectors.opening import open_detector
    from expunge.tiny.emoji import emoji_world

    world = emoji_world()
    request = world.prompts.request("church")
    images = torch.rand(24, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    images[8:] = torch.nn.functional.interpolate(images[8:, :, :2, :2], 64)
    seen = watched(world, Eye(open_detector("emoji-judge"), Rule(rule="top"))).judge(request)(images)
    assert [one.answers for one in seen] == [one.answers for one in world.judge(request)(images)]
