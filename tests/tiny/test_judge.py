"""What the shipped judge sees: things under changes that it was not trained on, and no thing where there is none."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import expunge
from expunge.metrics.judge import ELSE, EmojiJudge
from expunge.metrics.views import seen
from expunge.records import Prompt, Sampler
from expunge.tiny.bake.unseen import UNSEEN
from expunge.tiny.emoji import WEIGHTS

FORMS = ("a church", "a flat emoji of a church", "a 3d icon of a church", "a church in pixel art style",
         "a black and white church", "a flat emoji of a church on a blue background")


def in_a_black_frame(x: Tensor) -> Tensor:
    return F.pad(x[:, :, 3:-3, 3:-3], (3, 3, 3, 3))


CHANGES = {"darkened": lambda x: x * 0.6, "much darkened": lambda x: x * 0.4, "faded": lambda x: x * 0.5 + 0.5,
           "framed": in_a_black_frame, "mirrored": lambda x: x.flip(3),
           **{name: UNSEEN[name] for name in (
               "brighter gamma", "darker gamma", "vignette", "faded to brown", "faded to black and lifted",
               "two-coloured frame", "small on black", "scan lines", "JPEG blocks", "posterised",
               "red and blue swapped", "pixelated", "in waves", "dragged", "salt and pepper")}}


@pytest.fixture(scope="module")
def judge() -> EmojiJudge:
    return EmojiJudge(WEIGHTS)


@pytest.fixture(scope="module")
def churches(judge: EmojiJudge) -> Tensor:
    items = [(Prompt(text=form, role="direct"), seed) for form in FORMS for seed in range(4)]
    drawn = expunge.sample(expunge.load("embedded"), items, Sampler(steps=20))
    found = drawn[answers(judge, drawn) == judge.questions["object"].index("church")]
    assert len(found) >= 18
    return found


def answers(judge: EmojiJudge, pictures: Tensor) -> Tensor:
    return judge.probabilities(pictures)["object"].argmax(1)


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_church_is_still_a_church(name: str, judge: EmojiJudge, churches: Tensor) -> None:
    found = answers(judge, CHANGES[name](churches).clamp(0, 1)) == judge.questions["object"].index("church")
    assert found.float().mean() >= {"salt and pepper": 0.75}.get(name, 0.9)


def shapeless() -> Tensor:
    """Noise, smears, shades and single colours."""
    draw = torch.Generator().manual_seed(3)
    noise = torch.rand(8, 3, 64, 64, generator=draw)
    smears = F.interpolate(torch.rand(8, 3, 4, 4, generator=draw), (64, 64), mode="bicubic").clamp(0, 1)
    shades = F.interpolate(torch.rand(8, 3, 2, 2, generator=draw), (64, 64), mode="bilinear", align_corners=True)
    blanks = torch.stack([torch.full((3, 64, 64), tone) for tone in (0.0, 0.25, 0.5, 0.75, 1.0)])
    colours = torch.rand(8, 3, 1, 1, generator=draw).expand(-1, -1, 64, 64)
    return torch.cat([noise, smears, shades, blanks, colours])


def things(judge: EmojiJudge, pictures: Tensor) -> int:
    """How many are called by the name of a thing."""
    return sum(answer.answers.get("object", ELSE) != ELSE for answer in judge(pictures))


def test_what_shows_nothing_shows_nothing(judge: EmojiJudge) -> None:
    assert things(judge, shapeless()) == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", CHANGES)
def test_what_shows_nothing_shows_nothing_after_a_change(name: str, judge: EmojiJudge) -> None:
    allowed = {"small on black": 1, "salt and pepper": 1}.get(name, 0)  # of 37; grain or a frame on one colour
    assert things(judge, CHANGES[name](shapeless()).clamp(0, 1)) <= allowed


def test_what_shows_nothing_shows_nothing_in_any_view_by_itself(judge: EmojiJudge) -> None:
    assert judge.card["views"], "it has views"
    for steps in judge.card["views"]:
        assert things(judge, seen(shapeless(), steps)) == 0, steps


def test_the_card_tells_how_it_did_on_changes_it_was_not_trained_on(judge: EmojiJudge) -> None:
    scores = judge.card["scores"]
    assert all(scores[f"never trained on: {name}"]["object"]["n"] >= 400 for name in UNSEEN)
    for title, least in (("without a thing", 0.95), ("without a thing, changed", 0.93)):
        assert scores[title]["object"]["n"] >= 900
        assert scores[title]["object"]["accuracy"] >= least
