"""What must stay: terms that hold the student to the teacher on other prompts."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal, Protocol

from expunge.config import Settings, Slot, knob
from expunge.registry import KEEPS
from expunge.unlearn.context import AnySource, Source, TrainContext
from expunge.unlearn.objective import Term, regression
from expunge.unlearn.source import FrozenTrajectory


class Keep(Protocol):
    """Settings of a retention term.

    Attributes:
        cadence: "same": in the step of the erase loss; "between": in `steps` optimizer steps of its own after
            it.
        source: where its points come from, `batch` of them in every step.
    """

    @property
    def source(self) -> Source: ...

    @property
    def batch(self) -> int: ...

    @property
    def cadence(self) -> Literal["same", "between"]: ...

    @property
    def steps(self) -> int: ...

    def prepare(self, context: TrainContext) -> Term:
        """The loss, weighted."""
        ...


AnyKeep = Annotated[Keep, Slot(KEEPS, "match")]
"""Any registered keep, by its kind, or an object."""


class MatchTeacher(Settings):
    """The student predicts what the frozen teacher predicts, at the same x_t and t, on the prompts to keep.

        loss = mean |eps_theta(x_t | r) - eps_o(x_t | r)|^2,   r the empty prompt or one of the request's `keep`

    Source: Zhang et al. 2024 (AdvUnlearn), L_retain; AdvUnlearn.py@9d23124:123,165. Differs: the empty prompt
        is always kept (samplers ask the edited model for it); t is drawn per item; x_t comes from a pool by
        default.
    """

    kind: Literal["match"] = "match"
    weight: float = knob(1.0, "Factor of the loss", gt=0.0,
                         source="AdvUnlearn retain_loss_w (0.3 for nudity)")
    batch: int = knob(5, "Points per step", ge=1, source="AdvUnlearn retain_batch")
    cadence: Literal["same", "between"] = knob(
        "same", "same: in the erase step; between: in optimizer steps of its own",
        source="AdvUnlearn retain_train")
    steps: int = knob(1, "Keep steps after every erase step, when between", ge=1,
                      source="AdvUnlearn retain_step")
    source: AnySource = knob(FrozenTrajectory(), "Where x_t comes from")

    def prepare(self, context: TrainContext) -> Term:
        """Regression to the teacher, times `weight`."""
        prompts = ("", *(prompt for prompt in context.request.keep if prompt))
        stream = self.source.open(context, prompts, self.batch, "keep")

        term = regression(context, stream, context.told)
        return replace(term, loss=lambda number: self.weight * term.loss(number))
