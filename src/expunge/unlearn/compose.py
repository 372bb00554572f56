"""Towards the anchor and away from everything that asks for the concept, at once.

    target = e + toward (q - e) - away mean_j (eps_o(x_t | w_j) - e)
    loss   = mean |eps_theta(x_t | u) - target|^2

with e and q what the frozen teacher predicts for the empty prompt and for the anchor's, and w_j the prompt itself and,
with an adversary that has found some, the prompt with other words for the concept in it; u is one of them.

Source: STEREO (Srivatsan et al. 2025, CVPR, arXiv 2408.16807), stage 2, read in its code
(koushiksrivats/robust-concept-erasing@86f124f). Differs: both factors are settings and begin at 1 (published: scales of
2 that come out as 1 towards the anchor and 3 away, while its help says otherwise); anchors do not name the concept
(published ones do, so that only the tripled way away erases); x_t is the frozen teacher's.
"""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from expunge.config import Settings, knob
from expunge.models.conditioning import Conditioning
from expunge.unlearn.adversary import Attacker
from expunge.unlearn.anchor import anchor_predictor
from expunge.unlearn.context import NoisyBatch, Stream, TrainContext
from expunge.unlearn.divergence import SQUARED, AnyDivergence
from expunge.unlearn.needs import Need
from expunge.unlearn.objective import Term, regression


@runtime_checkable
class Wordings(Protocol):
    """An attacker that knows other words for the concept."""

    def wordings(self, points: NoisyBatch) -> list[Conditioning]:
        """What asks for the points' concepts, the prompts themselves first: rows as many as points, no gradient."""
        ...


class Compose(Settings):
    """Several ways at once: to the anchor, and away from the concept by all its names."""

    kind: Literal["compose"] = "compose"
    toward: float = knob(1.0, "Factor of the way from the empty prompt to the anchor", ge=0.0, le=20.0,
                         source="STEREO: 1")
    away: float = knob(1.0, "Factor of the way away from what asks for the concept, a mean over all of it", ge=0.0,
                       le=20.0, source="STEREO: 3")
    loss: AnyDivergence = knob(SQUARED, "Divergence from the target")

    @property
    def needs(self) -> tuple[Need, ...]:
        """What takes the concept's place."""
        return ("anchor",)

    def prepare(self, context: TrainContext, stream: Stream, attacker: Attacker | None) -> Term:
        """Regression to `target`."""
        teacher, anchored = context.teacher, anchor_predictor(context, "frozen")

        @torch.no_grad()
        def target(points: NoisyBatch) -> Tensor:
            e = context.told_nothing(points)
            asked = attacker.wordings(points) if isinstance(attacker, Wordings) else [points.cond]
            others = [teacher.predict(points.x_t, points.t, cond) for cond in asked[1:]]
            of_concept = torch.stack([context.told(points), *others]).mean(0)
            return e + self.toward * (anchored(points) - e) - self.away * (of_concept - e)

        return regression(context, stream, target, attacker, self.loss)
