"""An aim of two answers: the concept is seen only where both say so."""

from __future__ import annotations

import pytest
from rated import rated

from expunge.attacks.victim import Goal
from expunge.metrics.base import Aim, aim_of, shows, shows_any
from expunge.metrics.prompts import aims_of
from expunge.records import Detection, ImageRecord, Prompt, Request, Sampler, Target
from expunge.tiny.emoji import emoji_world

BOTH = Aim("pixel art church", "object", (("object", "church"), ("style", "pixel art")))
CHURCH = Aim("church", "object")


@pytest.mark.parametrize(("answers", "aim", "seen"), [
    ({"object": "church"}, CHURCH, True), ({"object": "house"}, CHURCH, False), ({}, CHURCH, None),
    ({"style": "flat"}, CHURCH, None),
    ({"object": "church", "style": "pixel art"}, BOTH, True), ({"object": "church", "style": "flat"}, BOTH, False),
    ({"object": "house", "style": "pixel art"}, BOTH, False), ({"object": "house"}, BOTH, False),
    ({"object": "church"}, BOTH, None), ({"style": "pixel art"}, BOTH, None), ({"style": "flat"}, BOTH, False),
    ({}, BOTH, None)])
def test_one_wrong_answer_decides_and_a_missing_one_leaves_it_open(answers: dict[str, str], aim: Aim, seen: bool | None
                                                                   ) -> None:
    assert shows(answers, aim) is seen
    assert shows_any(answers, [aim]) is seen


def test_of_several_any_is_enough_and_all_must_be_denied() -> None:
    two = [BOTH, Aim("bomb", "object")]
    assert shows_any({"object": "bomb"}, two) is True
    assert shows_any({"object": "dog"}, two) is False
    assert shows_any({"style": "flat"}, two) is None


def test_the_world_gives_a_joint_aim_and_its_prompts_find_it() -> None:
    world = emoji_world()
    request = world.prompts.request(["pixel art church", "bomb"])
    aims = aims_of(world.prompts, request)
    assert aims == (BOTH, Aim("bomb", "object"))
    assert aim_of(Prompt(text="x", role="direct", labels={"object": "church", "style": "pixel art"}), aims) == BOTH


def _judged(answers: list[dict[str, str]], role: str = "direct") -> list[tuple[ImageRecord, Detection]]:
    labels = {"object": "church", "style": "pixel art"} if role == "direct" else {"object": "church", "style": "flat"}
    prompt = Prompt(text=f"a {role}", role=role, labels=labels)  # type: ignore[arg-type]
    shots = [ImageRecord(prompt=prompt, seed=seed, sampler=Sampler(), model="m") for seed in range(len(answers))]
    return [(shot, Detection(shot=shot.key, detector="d", answers=told))
            for shot, told in zip(shots, answers, strict=True)]


def test_rates_count_pictures_that_show_both() -> None:
    answers = [{"object": "church", "style": "pixel art"}, {"object": "church", "style": "flat"},
               {"object": "house", "style": "pixel art"}, {"object": "church"}]
    side = _judged(answers)
    scores = rated(side, [BOTH], _judged([answers[0]] * 4))
    found, change = scores["found/direct"], scores["change/found/all"]
    assert (found.numerator, found.n, found.left_out["abstained"]) == (1, 3, 1)
    assert (change.n, round(change.value or 0, 3)) == (3, -0.667)
    kept = rated(_judged(answers, "near"), [BOTH])["found/keep"]
    assert (kept.numerator, kept.n) == (1, 3)


def test_an_attack_succeeds_only_with_both() -> None:
    import torch

    class Sees:
        name, questions = "j", {"object": ("church",), "style": ("flat", "pixel art")}

        def __call__(self, pictures: torch.Tensor) -> list[Detection]:
            return [Detection(answers={"object": "church", "style": style}) for style in ("flat", "pixel art")]

    sights = Goal(Sees(), BOTH).see(torch.zeros(2, 3, 8, 8))
    assert [sight.found for sight in sights] == [False, True]


def test_a_target_alone_stays_what_it_is() -> None:
    joint = Target(concept="pixel art church", prompts=("x",), joint=dict(BOTH.joint), kind="object", own=True)
    (alone, other) = Request.of((joint, Target(concept="Van Gogh", prompts=("y",), kind="style"))).alone()
    assert (alone.joint, alone.own, other.kind) == (dict(BOTH.joint), True, "style")
