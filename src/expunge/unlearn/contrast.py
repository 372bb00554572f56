"""Nearer to the anchor's guided prediction than to the concept's: a hinge on the difference of two squared gaps.

With e, p and q what the frozen teacher predicts for the empty prompt, for the prompt, and for its anchor prompt,

    p- = p + w (p - e),   p+ = q + w (q - e),

    loss = mean max(0, |out - p+|^2 - |out - p-|^2 + 2 (1 + w) margin |v|^2) / (2 (1 + w) d)
         = mean max(0, <out - (p+ + p-) / 2, v> + margin |v|^2) / d,

out = eps_theta(x_t | u), v = p - q, d = c h w. u is the prompt or, at the same latents, the empty prompt: what attacks
on images ask. The difference of squares is affine in `out`: there is one fixed direction to go, and nothing is asked of
the others. With w = 0 the plane goes through the middle of p and q, half a v from each. The larger w, the more it
depends on which of the two lies farther from e: with the published 15 the prompt's own prediction is beyond the plane
at many points, where nothing is asked of it, and at others the anchor's is not yet.

Source: TRCE (Chen et al. 2025, arXiv 2503.07389), stage 2, read in its code (ddgoodgood/TRCE@0da9b71). Differs: the
margin is a share of |v|^2, so that it means the same at every time and on every model (published: 0.01 of mean
squares), and the whole is divided by 2 (1 + w), so that a keep's weight does not depend on w.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from expunge.config import Settings, knob
from expunge.unlearn.adversary import Attacker
from expunge.unlearn.anchor import anchor_predictor
from expunge.unlearn.context import NoisyBatch, Stream, TrainContext
from expunge.unlearn.needs import Need
from expunge.unlearn.objective import Term, attacked, tabulated


class Contrast(Settings):
    """On the anchor's side of the plane between what is predicted for it and for the concept."""

    kind: Literal["contrast"] = "contrast"
    beyond: float = knob(15.0, "How far both predictions are moved away from the empty prompt's (w)", ge=0.0, le=100.0,
                         source="TRCE: 15")
    margin: float = knob(0.1, "How far behind the plane between the two, in gaps between prompt and anchor; 0 stops on "
                         "it", ge=-1.0, le=10.0, source="TRCE: 0.01 of mean squares")
    empty: float = knob(1.0, "Factor of the same loss told the empty prompt, at the same points; the prompt's is 1",
                        ge=0.0, source="TRCE: 1")

    @property
    def needs(self) -> tuple[Need, ...]:
        """What takes the concept's place."""
        return ("anchor",)

    def rows_at_once(self, batch: int) -> int:
        """Every point is told its prompt and the empty one."""
        return 2 * batch if self.empty else batch

    def prepare(self, context: TrainContext, stream: Stream, attacker: Attacker | None) -> Term:
        """The loss; over a pool the teacher's predictions are computed once."""
        anchored = anchor_predictor(context, "frozen")

        @torch.no_grad()
        def sides(points: NoisyBatch) -> Tensor:
            """p+ and p-, (B, 2, c, h, w)."""
            e = context.told_nothing(points)
            q, p = anchored(points), context.told(points)
            return torch.stack([q + self.beyond * (q - e), p + self.beyond * (p - e)], 1)

        table = tabulated(context, stream.pool, sides) if stream.pool is not None else None

        def loss(number: int, points: NoisyBatch, out: Tensor) -> Tensor:
            near, far = (table[points.rows] if table is not None else sides(points)).unbind(1)
            total = hinge(out, near, far, self.beyond, self.margin)
            if self.empty:
                null = context.null().repeat(len(points.t))
                told = context.student.predict(points.x_t, points.t, null)
                total = total + self.empty * hinge(told, near, far, self.beyond, self.margin)
            return total / (1.0 + self.empty)

        return attacked(context, stream, loss, attacker)


def hinge(out: Tensor, near: Tensor, far: Tensor, beyond: float, margin: float) -> Tensor:
    """The loss above of predictions, a scalar; all (B, c, h, w). `near`: p+, `far`: p-, `beyond`: w."""
    v = (far - near).flatten(1) / (1.0 + beyond)
    side = ((out - 0.5 * (near + far)).flatten(1) * v).sum(1) + margin * v.square().sum(1)
    return side.clamp(min=0.0).mean() / v.shape[1]
