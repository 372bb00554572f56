"""The detector of an invented character: right on drawings that it has not seen, and never fooled by the world."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import expunge
from expunge.errors import UserError
from expunge.metrics.characters import CHARACTERS
from expunge.metrics.invented import OPEN, Invented, InventedCharacter
from expunge.models.model import Model
from expunge.tiny.emoji import SCENE, emoji_world
from expunge.tiny.world import BACKGROUNDS


@pytest.fixture(scope="module")
def model() -> Model:
    return expunge.load("embedded", device="cpu")


@pytest.mark.slow
def test_it_knows_its_character_and_not_the_others(model: Model) -> None:
    drawn = expunge.sample(model, [(f"an emoji of a {thing}", 0) for thing in ("church", "dog", "pizza", "bus")],
                           expunge.Sampler(steps=4, guidance=2.0))
    others = torch.cat([drawn, drawn.flip(3), drawn.flip(2)])
    blorp = InventedCharacter("blorp", SCENE)
    judge = blorp.judge(model, emoji_world().features(), others, count=45)
    assert judge.score.value is not None
    assert judge.score.value >= 0.9
    right = [answer.answers.get("object") for answer in judge(blorp.pictures(20, 64, 64)[0])]
    wrong = [answer.answers.get("object") for name in CHARACTERS if name != "blorp"
             for answer in judge(InventedCharacter(name, SCENE).pictures(4, 64, 64)[0])]
    assert right.count("blorp") >= 14
    assert wrong.count("blorp") <= 1
    blobs = F.interpolate(F.avg_pool2d(blorp.pictures(32, 64, 64)[0][20:], 8), (64, 64), mode="bilinear")
    assert not any(answer.answers.get("object") == "blorp" for answer in judge(torch.cat([drawn, blobs])))


def test_prompts_name_the_character_on_every_background() -> None:
    prompts = InventedCharacter("zindle", SCENE).prompts
    assert len(prompts) == len(BACKGROUNDS)
    assert all("zindle" in prompt.text and prompt.labels == {"object": "zindle"} for prompt in prompts)
    with pytest.raises(UserError, match="nobody"):
        InventedCharacter("nobody", SCENE)


def test_what_is_taught_is_captioned_as_it_is_asked_for() -> None:
    blorp = Invented().newcomer()
    pictures, captions = blorp.pictures(24, 48, 80)
    assert pictures.shape == (24, 3, 48, 80)
    assert {*captions} <= {prompt.text for prompt in blorp.prompts}
    assert blorp.name in CHARACTERS
    assert Invented().newcomer("trixel") == InventedCharacter("trixel", OPEN)
