"""What takes a concept's place: its anchor, put into the prompts that ask for the concept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from expunge.models.conditioning import Conditioning
from expunge.models.model import Model
from expunge.models.sample import encoded
from expunge.records import SPREADS, Request, Target
from expunge.records.renaming import renamed
from expunge.unlearn.context import NoisyBatch, TrainContext

AnchorModel = Literal["frozen", "student"]
"""Who predicts for the anchor: the frozen teacher, or the student itself without gradient."""


def anchor_prompts(prompts: Sequence[str], request: Request) -> list[str]:
    """What takes each prompt's place: the prompt with its target's anchor; "" where the target has none."""
    return [anchored(prompt, request.target_of(prompt)) for prompt in prompts]


def anchored(prompt: str, target: Target) -> str:
    """`prompt` with the target's anchor in the concept's place; the anchor alone if it does not name the concept.

    Articles, plurals and possessives follow. Without an anchor: the empty prompt.
    """
    if not target.anchor:
        return ""
    text = renamed(prompt, target.word, target.anchor, always=target.kind in SPREADS)
    return text if text is not None else target.anchor


@dataclass(frozen=True)
class AnchorStates:
    """Text states of every request prompt's anchor prompt, encoded once.

    Attributes:
        rows: row in `cond` by the prompt that asks for the concept; cond: (N, T, D), no gradient.
    """

    rows: Mapping[str, int]
    cond: Conditioning

    @classmethod
    @torch.no_grad()
    def encoded(cls, teacher: Model, request: Request) -> AnchorStates:
        """By the frozen teacher; each distinct anchor prompt in a batch of its own, as images are drawn."""
        prompts = request.all_prompts
        anchors = anchor_prompts(prompts, request)
        each = {text: row for row, text in enumerate(dict.fromkeys(anchors))}
        cond, _ = encoded(teacher, [*each])
        return cls({prompt: each[anchor] for prompt, anchor in zip(prompts, anchors, strict=True)}, cond)

    def of(self, prompts: Sequence[str]) -> Conditioning:
        """(B, T, D): what is told in place of `prompts`, which are prompts of the request."""
        return self.cond.at(torch.tensor([self.rows[prompt] for prompt in prompts]))


def anchor_predictor(context: TrainContext, who: AnchorModel) -> Callable[[NoisyBatch], Tensor]:
    """What is predicted for the anchor in place of the points' prompts: (B, c, h, w), native output, no gradient."""
    known = AnchorStates.encoded(context.teacher, context.request)

    @torch.no_grad()
    def predicted(points: NoisyBatch) -> Tensor:
        cond = known.of(points.prompts)
        if who == "frozen" and points.said is not None and list(points.shown) == anchor_prompts(
                points.prompts, context.request):
            return points.said  # known since the trajectories to the anchor were drawn
        if who == "frozen":
            return context.teacher.predict(points.x_t, points.t, cond)
        conditioned = context.conditioning(anchor_prompts(points.prompts, context.request), cond)
        return context.student.predict(points.x_t, points.t, conditioned)

    return predicted
