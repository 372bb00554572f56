"""Images that an attacker learns from: of the concept and of other things, drawn by the original model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from expunge.attacks.victim import Goal, Victim
from expunge.metrics.base import PromptCounts
from expunge.metrics.worlds import world_of
from expunge.models.sample import draw
from expunge.records import Request, names_any

_FIRST_SEED = 10_000_000
"""Seeds of the images begin here, far from those that are evaluated."""
_ROUNDS = 4
"""The original model draws at most this many times the images that are wanted."""


@dataclass(frozen=True)
class Lesson:
    """What the attacker learns from: images (N, 3, H, W), captions, whose they are, and how many were drawn for it."""

    pictures: Tensor
    captions: tuple[str, ...]
    whose: str
    drawn: int = 0


def drawn_lesson(victim: Victim, prompts: Sequence[str], goal: Goal, count: int, *, showing: bool, seed: int = 0
                 ) -> Lesson:
    """`count` images of the original model that show the concept, or that do not, drawn until there are enough.

    For a null control there is no image of the concept; whatever the model draws when asked takes its place.
    """
    chosen: list[tuple[Tensor, str]] = []
    drawn = 0
    with victim.without_patch():
        while len(chosen) < count and drawn < _ROUNDS * count:
            each = range(drawn, drawn + count)
            texts = [prompts[k % len(prompts)] for k in each]
            seeds = [_FIRST_SEED + 100_000 * seed + k for k in each]
            pictures = draw(victim.model, list(zip(texts, seeds, strict=True)), victim.sampler, batch=victim.batch)
            chosen += [(picture, text) for picture, text, sight
                       in zip(pictures, texts, goal.see(pictures), strict=True)
                       if not sight.error and (sight.found or (showing and not goal.known)) == showing]
            drawn += len(texts)
    chosen = chosen[:count]
    stacked = torch.stack([picture for picture, _ in chosen]) if chosen else torch.empty(0, 3, 1, 1)
    return Lesson(stacked, tuple(text for _, text in chosen), "the original model", drawn)


def innocent_prompts(victim: Victim, request: Request) -> list[str]:
    """Prompts for other things: the request's own to keep, then the world's near and far ones; none names the concept.
    """
    counts = PromptCounts(direct=0, held_out=0, paraphrase=0, implicit=0, near=24, far=24, empty=0, never_seen=0)
    asks = victim.asks or world_of(victim.model.world, victim.model.name).prompts
    plain = [name for name in ("name",) if name in asks.strata]  # the shortest fit every text encoder
    asked = (*request.keep, *(prompt.text for prompt in asks.of(request, counts, plain)))
    return [text for text in dict.fromkeys(asked) if text and not names_any(text, request)]
