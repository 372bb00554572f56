"""On the real, small model: overwriting with the integrity keep takes the concept and leaves other images alone."""

from __future__ import annotations

import pytest
import torch

import expunge
from expunge.metrics.base import PromptCounts
from expunge.records import FORGET_ROLES, Sampler
from expunge.tiny.emoji import emoji_world
from expunge.unlearn.presets.integrity import OVERWRITE_FAST

WORLD = emoji_world()
COUNTS = PromptCounts(direct=0, held_out=6, paraphrase=0, implicit=0, near=3, far=3, style=0, never_seen=0, empty=0)
SMALLER = {"steps": 50, "batch": 6, "learning_rate": 5e-4, "warmup": 5, "source.grid": 10, "source.trajectories": 12,
           "keep.batch": 2, "keep.source.grid": 10, "keep.source.trajectories": 12}


@pytest.mark.slow
def test_the_concept_goes_and_other_pictures_hardly_move() -> None:
    model, request = expunge.load("embedded", device="cpu"), WORLD.prompts.request("church", anchor="house")
    prompts, sampler = WORLD.prompts.of(request, COUNTS, ("full",)), Sampler(steps=20)
    forget = torch.tensor([prompt.role in FORGET_ROLES for prompt in prompts])

    def drawn() -> torch.Tensor:
        return expunge.sample(model, [(prompt, 0) for prompt in prompts], sampler, batch=16)

    def churches(pictures: torch.Tensor) -> int:
        answers = WORLD.judge(request)(pictures)
        return sum(answers[i].answers.get("object") == "church" for i, mine in enumerate(forget) if mine)

    before = drawn()
    with expunge.applied(model, expunge.erase(model, request, OVERWRITE_FAST.override(SMALLER), seed=0)):
        after = drawn()
    assert churches(before) >= 4
    assert churches(after) <= 2
    moved = WORLD.distance()(before, after)
    assert float(moved[~forget].mean()) < 0.25 * float(moved[forget].mean())
