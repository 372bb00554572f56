"""The detector of an invented character: right on drawings that it has not seen, and never fooled by the world."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

import expunge
from expunge.errors import UserError
from expunge.models.model import Model
from expunge.tiny.characters import CHARACTERS, character_pictures
from expunge.tiny.emoji import emoji_world
from expunge.tiny.newcomer import character_judge, character_prompts
from expunge.tiny.world import BACKGROUNDS


@pytest.fixture(scope="module")
def model() -> Model:
    return expunge.load("embedded", device="cpu")


@pytest.mark.slow
def test_it_knows_its_character_and_not_the_others(model: Model) -> None:
    drawn = expunge.sample(model, [(f"an emoji of a {thing}", 0) for thing in ("church", "dog", "pizza", "bus")],
                           expunge.Sampler(steps=4, guidance=2.0))
    others = torch.cat([drawn, drawn.flip(3), drawn.flip(2)])
    judge = character_judge("blorp", model, emoji_world().features(), others, count=45)
    assert judge.score.value is not None
    assert judge.score.value >= 0.9
    right = [answer.answers.get("object") for answer in judge(character_pictures("blorp", range(20))[0])]
    wrong = [answer.answers.get("object") for name in CHARACTERS if name != "blorp"
             for answer in judge(character_pictures(name, range(4))[0])]
    assert right.count("blorp") >= 14
    assert wrong.count("blorp") <= 1
    blobs = F.interpolate(F.avg_pool2d(character_pictures("blorp", range(20, 32))[0], 8), (64, 64), mode="bilinear")
    assert not any(answer.answers.get("object") == "blorp" for answer in judge(torch.cat([drawn, blobs])))


def test_prompts_name_the_character_on_every_background() -> None:
    prompts = character_prompts("zindle")
    assert len(prompts) == len(BACKGROUNDS)
    assert all("zindle" in prompt.text and prompt.labels == {"object": "zindle"} for prompt in prompts)
    with pytest.raises(UserError, match="nobody"):
        character_prompts("nobody")
