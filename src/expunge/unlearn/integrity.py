"""Hold on to the images themselves: what a sampler would do on its way to them, at the latents that it would pass.

A sampler under guidance g moves x_t along

    eps_g(x_t | r) = eps(x_t | "") + g (eps(x_t | r) - eps(x_t | "")),

so that two models draw the same image of r from the same noise where their eps_g agree along the original's
trajectory from that noise. Integrity measures that at the trajectory's end; here it is asked for at every point of it.

Source: retention by distillation towards the original model, in a form of our own. The paper on model integrity
(arXiv 2411.02068) names the aim; its losses are not public, and this is not them.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from expunge.config import Settings, knob
from expunge.models.conditioning import Conditioning
from expunge.models.model import Model
from expunge.unlearn.context import NoisyBatch, TrainContext
from expunge.unlearn.needs import Need
from expunge.unlearn.objective import Term, tabulated
from expunge.unlearn.others import Others
from expunge.unlearn.source import FrozenTrajectory


class Integrity(Settings):
    """The student moves as the teacher does, along the teacher's own trajectories to the prompts to keep.

        guided   loss = mean |eps_g,theta(x_t | r) - eps_g,o(x_t | r)|^2
        both     loss = mean (|eps_theta(x_t | r) - eps_o(x_t | r)|^2 + |eps_theta(x_t | "") - eps_o(x_t | "")|^2) / 2

    r one of the request's `keep`, or the empty prompt; g the guidance of the trajectories. "guided" asks for nothing
    but the motion; "both" holds under any guidance. The keep "match" asks for one branch at a time: what it holds of
    the empty prompt, it holds on the empty prompt's own trajectories.
    """

    kind: Literal["integrity"] = "integrity"
    weight: float = knob(1.0, "Factor of the loss", gt=0.0)
    batch: int = knob(4, "Points per step; each is two samples for the student", ge=1)
    cadence: Literal["same", "between"] = knob(
        "same", "same: in the erase step; between: in optimizer steps of its own")
    steps: int = knob(1, "Keep steps after every erase step, when between", ge=1)
    branches: Literal["guided", "both"] = knob("guided", "What must agree: the guided prediction, or each branch of it")
    source: FrozenTrajectory = knob(FrozenTrajectory(grid=20, guidance=2.0, trajectories=24),
                                    "The trajectories: best on the grid and guidance at which images are drawn")

    beside: int = knob(0, "Points of the concept per step at which the student is told prompts to keep, and predicts "
                       "what the teacher does", added=True, ge=0)
    wide: int = knob(0, "The same, told random tokens", added=True, ge=0)
    beside_weight: float = knob(1.0, "Factor of those two, beside `weight`", added=True, gt=0.0)

    @property
    def needs(self) -> tuple[Need, ...]:
        """Text encoders in every step, which read the random tokens."""
        return ("text in steps",) if self.wide else ()

    def prepare(self, context: TrainContext) -> Term:
        """Regression to the teacher, times `weight`."""
        prompts = ("", *(prompt for prompt in context.request.keep if prompt))
        stream = self.source.open(context, prompts, self.batch, "keep")
        with torch.no_grad():
            null = context.teacher.unconditional()

        @torch.no_grad()
        def target(points: NoisyBatch) -> Tensor:
            of_null = context.teacher.predict(points.x_t, points.t, null.repeat(len(points.t)))
            return self._of(context.told(points), of_null)

        table = tabulated(context, stream.pool, target) if stream.pool is not None else None

        def loss(number: int) -> Tensor:
            points = stream.draw(number)
            wanted = table[points.rows] if table is not None else target(points)
            out = self._compared(context.student, points, context.condition(points), context.null())
            held = (out - wanted).square().mean()
            if others is not None:
                held = held + self.beside_weight * others.loss(number)
            return self.weight * held

        others = Others(context, prompts, self.beside, self.wide) if self.beside or self.wide else None
        return Term(loss)

    def _compared(self, model: Model, points: NoisyBatch, cond: Conditioning, null: Conditioning) -> Tensor:
        """(B, c, h, w) guided, or (B, 2c, h, w) both branches."""
        count = len(points.t)
        both = Conditioning.cat([cond, null.repeat(count)])
        out = model.predict(points.x_t.repeat(2, 1, 1, 1), points.t.repeat(2), both)
        return self._of(*out.chunk(2))

    def _of(self, of_prompt: Tensor, of_null: Tensor) -> Tensor:
        """What is compared, of both branches."""
        if self.branches == "both":
            return torch.cat([of_prompt, of_null], dim=1)
        return of_null + self.source.guidance * (of_prompt - of_null)
