"""The attacks that start from images, on the embedded model: a model that knows the thing beats random weights."""

from __future__ import annotations

import pytest
import torch

from expunge.attacks.base import Attack
from expunge.attacks.inpainting import Inpainting
from expunge.attacks.noising import Noising
from expunge.attacks.null import randomised
from expunge.attacks.victim import Goal, Victim
from expunge.metrics.base import Aim, PromptCounts
from expunge.models.store import load
from expunge.records import Sampler
from expunge.tiny.emoji import emoji_world


@pytest.mark.slow
@pytest.mark.parametrize("attack", [Noising(strengths=(0.9,), words=("own",)), Inpainting(holes=("centre",))])
def test_known_thing_is_found_and_random_weights_give_nothing(attack: Attack) -> None:
    model, world = load("embedded"), emoji_world()
    request = world.prompts.request("church")
    goal = Goal(world.judge(request), Aim("church", "object"))
    counts = PromptCounts(**{**dict.fromkeys(PromptCounts.model_fields, 0), "direct": 4})
    items = [(prompt, 0) for prompt in world.prompts.of(request, counts)]
    victim = Victim(model, None, Sampler(steps=10))
    pictures = victim.draw([prompt.text for prompt, _ in items], [0] * len(items))
    victim = Victim(model, None, victim.sampler, pictures[[sight.found for sight in goal.see(pictures)]])
    assert victim.pictures is not None
    found = sum(outcome.found for outcome in attack.outcomes(victim, request, items, goal))
    with randomised(victim, pictures=victim.pictures) as blank:
        outcomes = list(attack.outcomes(blank, request, items, goal))
    assert not any(outcome.error for outcome in outcomes)
    assert sum(outcome.found for outcome in outcomes) <= 1
    assert found >= 2
    assert all(torch.isfinite(outcome.picture).all() for outcome in outcomes if outcome.picture is not None)
