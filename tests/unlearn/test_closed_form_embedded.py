"""On the real, small model: a closed form takes the concept out in seconds and leaves its neighbours."""

from __future__ import annotations

import expunge
from expunge.metrics.base import PromptCounts
from expunge.records import FORGET_ROLES, Sampler
from expunge.tiny.emoji import emoji_world
from expunge.unlearn.presets.closed_form import UCE

WORLD = emoji_world()
REQUEST = WORLD.prompts.request("church", "house")
PROMPTS = WORLD.prompts.of(REQUEST, PromptCounts(direct=6, held_out=6, paraphrase=0, implicit=0, near=12, far=0,
                                              never_seen=0, empty=0))


def shown(model: expunge.Model) -> tuple[int, int]:
    """Images of the concept among 12 that should show it, and right ones among 12 of its neighbours."""
    drawn = expunge.sample(model, [(prompt, 0) for prompt in PROMPTS], Sampler(steps=10), batch=24)
    right = [answer.answers.get("object") == prompt.labels["object"]
             for answer, prompt in zip(WORLD.judge(REQUEST)(drawn), PROMPTS, strict=True)]
    forget = [prompt.role in FORGET_ROLES for prompt in PROMPTS]
    return (sum(one for one, own in zip(right, forget, strict=True) if own),
            sum(one for one, own in zip(right, forget, strict=True) if not own))


def test_uce_erases_a_concept_and_keeps_its_neighbours() -> None:
    model = expunge.load("embedded", device="cpu")
    found, near = shown(model)
    with expunge.applied(model, UCE(model, REQUEST)):
        found_after, near_after = shown(model)
    assert found >= 6
    assert near >= 6
    assert found_after <= found // 2
    assert near_after >= near - 3
