"""What the student should predict instead, and the loss that says so.

An objective is settings; `prepare` turns it into a `Term`: a loss for every step number and, if the objective
learns something itself (a discriminator), that thing's tensors and optimizers, which are then checkpointed
with the rest.

Objectives work on the network's native output. A target whose weights add to 1 means the same image in
every parametrisation, because eps and v are affine in one another at a given x_t and t:

    v = (eps - sqrt(1 - abar_t) x_t) / sqrt(abar_t),   so   |v - v'|^2 = |eps - eps'|^2 / abar_t:

the same target, another weight of its squared error over t.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from expunge.config import Settings, Slot, knob
from expunge.models.conditioning import Conditioning
from expunge.registry import OBJECTIVES
from expunge.unlearn.adversary import Attacker
from expunge.unlearn.anchor import anchor_prompts
from expunge.unlearn.context import NoisyBatch, Pooled, Stream, TrainContext
from expunge.unlearn.divergence import SQUARED, AnyDivergence, Divergence, divergence


def _nothing(number: int) -> None:
    """What a part does at the beginning of a step that has nothing to do once in each."""


@dataclass(frozen=True)
class Term:
    """A part of the loss.

    Attributes:
        loss: the loss (a scalar with gradient) of a step's number; the same number may be asked for more than
            once.
        begin: called once at the beginning of every step with its number, before any loss is asked for: a part that
            does something once per step (a discriminator that learns) is told here that the step is a new one.
        state: tensors that it changes itself, by name; optimizers: its own, by name.
        saliency: the loss whose gradient tells which weights matter for the concept, which changes nothing however
            often it is asked for; None: that is `loss`.
        every: of a loss that joins others: steps from one in which it is asked for to the next, the first one included.
    """

    loss: Callable[[int], Tensor]
    begin: Callable[[int], None] = _nothing
    state: Mapping[str, Tensor] = field(default_factory=dict)
    optimizers: Mapping[str, Optimizer] = field(default_factory=dict)
    saliency: Callable[[int], Tensor] | None = None
    every: int = 1


class Objective(Protocol):
    """Settings of what the student is trained towards."""

    def prepare(self, context: TrainContext, stream: Stream, attacker: Attacker | None) -> Term:
        """The loss on `stream`'s points; with an attacker, the student is told what the attacker finds."""
        ...


AnyObjective = Annotated[Objective, Slot(OBJECTIVES, "steer")]
"""Any registered objective, by its kind, or an object."""


class Steer(Settings):
    """Steer the student's prediction for the concept away from what the frozen teacher predicts for it.

        target = eps_o(x_t | b) - eta * (eps_o(x_t | c) - eps_o(x_t | f))
        loss   = mean |eps_theta(x_t | c) - target|^2, or another divergence of the two

    with eps_o the teacher, c the prompt of the point, and base b the empty prompt, or, if the request names
    an anchor and `base` does not say else, the prompt with the anchor in the concept's place. f is the empty prompt;
    with `away` "anchor" it is the anchor's prompt where there is one, so that what both prompts ask for (a style, a
    second thing) is not steered away from.

    Source: Gandikota et al. 2023, eq. 7; train-esd.py@a2189e9; esd_sd.py@25613d2:191. Differs: c is the
        point's whole prompt, drawn from the request's prompts, not the concept's name alone; with an anchor
        the student's input stays c (esd_sd.py with erase_from trains on the anchor's prompt). esd_sd.py's
        base is c itself, so its eta 2 is our eta 1.
    """

    kind: Literal["steer"] = "steer"
    base: Literal["anchor", "empty"] = knob(
        "anchor", "What is steered from: the prompt with the anchor in it, where there is one, or the empty one anyhow",
        source="empty: Gandikota et al. 2023")
    away: Literal["empty", "anchor"] = knob(
        "empty", "What the way away from the concept leads to: the empty prompt, or the anchor's, where there is one")
    eta: float = knob(1.0, "How far beyond the base, away from the concept; 0 stops at the base", ge=0.0,
                      le=20.0, source="Gandikota et al. 2023; CompVis ESD negative_guidance")
    loss: AnyDivergence = knob(SQUARED, "Divergence from the target")

    def prepare(self, context: TrainContext, stream: Stream, attacker: Attacker | None) -> Term:
        """Regression to `target`."""
        return regression(context, stream, lambda points: self.target(context, points), attacker, self.loss)

    @torch.no_grad()
    def target(self, context: TrainContext, points: NoisyBatch) -> Tensor:
        """Where the student should go at `points`: (B, c, h, w), native output, no gradient."""
        teacher, x_t, t = context.teacher, points.x_t, points.t
        of_concept = context.told(points)
        anchors = anchor_prompts(points.prompts, context.request)
        texts_of = {"empty": [""] * len(t), "anchor": anchors}
        needed = {self.base, self.away} if any(anchors) else {"empty"}
        known = {which: teacher.predict(x_t, t, teacher.encode(texts_of[which])) for which in sorted(needed)}
        base, away = (known.get(which, known.get("empty")) for which in (self.base, self.away))
        assert base is not None  # without anchors both are the empty prompt's
        assert away is not None
        return base - self.eta * (of_concept - away)


def regression(context: TrainContext, stream: Stream, target: Callable[[NoisyBatch], Tensor],
               attacker: Attacker | None = None, kind: Divergence = SQUARED) -> Term:
    """Divergence (mean squared gap by default) of the student's native output from `target`, which may depend on
    frozen parts only.

    Over a pool the targets are computed once, before the first step.
    """
    table = tabulated(context, stream.pool, target) if stream.pool is not None else None

    def at(number: int, points: NoisyBatch, out: Tensor) -> Tensor:
        return divergence(kind, out, table[points.rows] if table is not None else target(points))

    return attacked(context, stream, at, attacker)


def attacked(context: TrainContext, stream: Stream, loss: Callable[[int, NoisyBatch, Tensor], Tensor],
             attacker: Attacker | None) -> Term:
    """`loss` of a step's number, its points, and what the student predicts there, (B, c, h, w): told their prompts, or
    what the attacker finds.

    The attacker sees the prediction before the weights' backward pass, so that it can learn from the same forward.
    Where weights are chosen by their gradient nothing is attacked: an attacker that is asked moves on.
    """

    def predicted(points: NoisyBatch, cond: Conditioning) -> Tensor:
        return context.student.predict(points.x_t, points.t, cond)

    def plain(number: int) -> Tensor:
        points = stream.draw(number)
        return loss(number, points, predicted(points, context.condition(points)))

    def under_attack(number: int) -> Tensor:
        assert attacker is not None
        points = stream.draw(number)
        out = predicted(points, attacker.condition(number, points))
        attacker.saw(number, points, out)
        return loss(number, points, out)

    return Term(plain) if attacker is None else Term(under_attack, saliency=plain)


def tabulated(context: TrainContext, pool: Pooled, target: Callable[[NoisyBatch], Tensor]) -> Tensor:
    """`target` at every entry of the pool, in its order."""
    table = torch.zeros(0)
    for part in context.stages.each(torch.arange(len(pool)).split(context.chunk)):
        here = target(pool.take(part))
        table = table if len(table) else here.new_zeros(len(pool), *here.shape[1:])  # (N*S, c, h, w)
        table[part] = here
    return table
