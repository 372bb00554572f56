"""Bring the concept's share of a prediction under a level, and leave everything else of it alone.

With p = eps_o(x_t | c) and q = eps_o(x_t | c_a) what the frozen teacher predicts for the prompt and for its anchor
prompt, v = p - q is the concept's part, and of any prediction at the same x_t the share that is left of it is

    a = <eps_theta(x_t | u) - q, v> / (|v|^2 + kappa),   1: all of the concept, 0: the anchor.

    loss = mean |v|^2 / d * max(0, a - level)^2,   d = c h w,   u = c, or what an adversary found, and the empty prompt

At level 0 this is the squared gap along v alone. There is no gradient once a prediction is on the anchor's side of the
level, and none in any direction but v. What networks predict (eps, v, a velocity) is affine in one another at a given
x_t and t, so that a is the same in every parametrisation.

Source: the guided sampler that subtracts a prediction's projection on v (Dynamic Velocity Erasing, arXiv 2602.01089),
distilled into weights; the one-sided loss along one direction is TRCE's (arXiv 2503.07389). Differs from both: the
squared hinge, its level, and inputs that nobody trained on.
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


class HalfSpace(Settings):
    """The concept's share of the prediction, no more than `level`."""

    kind: Literal["halfspace"] = "halfspace"
    level: float = knob(0.25, "Share of the concept from which on nothing is pulled: 0 is the anchor, below it beyond",
                        ge=-10.0, lt=1.0)
    kappa: float = knob(0.05, "What keeps a share from exploding where prompt and anchor say the same: so much of the "
                        "mean |v|^2 is added to each", ge=0.0)
    empty: float = knob(0.0, "Factor of the same loss told the empty prompt, at points of the concept: what attacks on "
                        "images ask", ge=0.0)
    empty_rows: int = knob(4, "Points of a step that are told the empty prompt, too", ge=1)

    @property
    def needs(self) -> tuple[Need, ...]:
        """What takes the concept's place."""
        return ("anchor",)

    def rows_at_once(self, batch: int) -> int:
        """Some points are told the empty prompt, too."""
        return batch + (min(batch, self.empty_rows) if self.empty else 0)

    def prepare(self, context: TrainContext, stream: Stream, attacker: Attacker | None) -> Term:
        """The loss; over a pool q and v are computed once."""
        anchored = anchor_predictor(context, "frozen")

        @torch.no_grad()
        def sides(points: NoisyBatch) -> Tensor:
            """q and v, (B, 2, c, h, w)."""
            q = anchored(points)
            return torch.stack([q, context.told(points) - q], 1)

        table = tabulated(context, stream.pool, sides) if stream.pool is not None else None
        mean = table[:, 1].square().flatten(1).sum(1).mean() if table is not None else None

        def loss(number: int, points: NoisyBatch, out: Tensor) -> Tensor:
            q, v = (table[points.rows] if table is not None else sides(points)).unbind(1)
            floor = self.kappa * (mean if mean is not None else v.square().flatten(1).sum(1).mean())
            total = beyond(out, q, v, self.level, floor)
            if self.empty:
                few = slice(0, self.empty_rows)
                null = context.null().repeat(len(points.t[few]))
                told = context.student.predict(points.x_t[few], points.t[few], null)
                total = total + self.empty * beyond(told, q[few], v[few], self.level, floor)
            return total

        return attacked(context, stream, loss, attacker)


def beyond(out: Tensor, q: Tensor, v: Tensor, level: float, floor: Tensor | float) -> Tensor:
    """The loss above of predictions, a scalar; all (B, c, h, w)."""
    size = v.square().flatten(1).sum(1)
    over = (share(out, q, v, floor) - level).clamp(min=0.0)
    return (size / v[0].numel() * over.square()).mean()


def share(out: Tensor, q: Tensor, v: Tensor, floor: Tensor | float) -> Tensor:
    """a of each prediction, (B,); `floor` is kappa in units of |v|^2."""
    return ((out - q) * v).flatten(1).sum(1) / (v.square().flatten(1).sum(1) + floor).clamp(min=1e-12)
