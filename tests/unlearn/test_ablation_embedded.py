"""On the real, small model: Concept Ablation, shortened, takes most of the concept away in few steps."""

from __future__ import annotations

import pytest

import expunge
from expunge.metrics.base import PromptCounts
from expunge.records import Sampler
from expunge.tiny.emoji import emoji_world
from expunge.unlearn.presets.ablation import ABLATION_FAST


@pytest.mark.slow
def test_held_out_prompts_no_longer_bring_the_concept() -> None:
    model, world = expunge.load("embedded", device="cpu"), emoji_world()
    request = world.prompts.request("church", anchor="house")
    counts = PromptCounts(direct=0, held_out=8, paraphrase=0, implicit=0, near=0, far=0, style=0, never_seen=0, empty=0)
    items = [(prompt, 0) for prompt in world.prompts.of(request, counts)]
    judge, sampler = world.judge(request), Sampler(steps=12)

    def found() -> int:
        return sum(answer.answers.get("object") == "church" for answer in judge(expunge.sample(model, items, sampler)))

    before = found()
    patch = expunge.erase(model, request, ABLATION_FAST, settings={"steps": 60, "batch": 6,
                                                                   "source": {"pictures": 12, "grid": 12}})
    with expunge.applied(model, patch):
        after = found()
    assert before >= 5
    assert after <= before // 2
