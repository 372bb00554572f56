"""Refresh around another update: before a step, bring the concept back a little; the step then erases it again.

Every r-th step, before the wrapped one, J times:

    theta <- theta + gamma |theta| g / |g| + sqrt(2 gamma noise) xi,   g the gradient of the loss to forget (or of all)

by tensor, in place, with the step halved while the loss rises by more than a share of it. The climb on the loss to
forget is a cheap relearning of the concept, and a step from the revived point erases what a little fine-tuning would
revive: to first order the sum is about L + sigma |grad L_erase|, one step of what protects against relearning by an
inner loop.

Source: Wang et al. 2024 (refresh learning, ICLR), by `continual.refresh`; on the loss to forget alone, our reading for
unlearning. Differs: relative steps without a Fisher information; an update sees no data of what came before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import model_validator
from torch import Tensor
from torch.nn import Parameter
from typing_extensions import Self

from expunge.config import Slot, knob
from expunge.continual.refresh import Ascents, Refresh, Refresher, rise
from expunge.continual.remembered import Remembered
from expunge.registry import UPDATES
from expunge.train import Losses
from expunge.unlearn.context import TrainContext
from expunge.unlearn.dual import Dual, DualStepper
from expunge.unlearn.needs import Need
from expunge.unlearn.objective import Term
from expunge.unlearn.saliency import MaskedStepper
from expunge.unlearn.update import Descent, Plain, StepLosses, Stepper, Update


class Refreshed(Ascents):
    """Another update, with an ascent before every r-th step. Within a mask, only the mask's weights climb.

    An attack that is due in a step is made before the ascent, on the weights as the last step left them. With a cap,
    what was looked at is kept until the step: with `target` full the graphs of all losses are in memory at once.
    """

    kind: Literal["refresh"] = "refresh"
    whole: ClassVar[str] = "its steps are relative to the size of weights, and a LoRA's factor begins at zero"
    target: Literal["forget", "full"] = knob(
        "forget", "What is climbed: the loss to forget, so that the concept comes back; or all losses, as the paper "
        "does", source="Wang et al. 2024: full")
    norm: Literal["tensor", "whole", "none"] = knob(
        "tensor", "What a step is relative to: each tensor's norm, that of all weights, or nothing")
    seed: int = knob(0, "With a step's number it decides the noise")
    rise: float | None = rise(0.5)
    update: Annotated[Update, Slot(UPDATES, "plain", inside="refresh")] = knob(Plain(), "Update rule")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.target == "full" and isinstance(self.update, Dual):
            raise ValueError("a bound weighs the losses anew in every step, so their plain sum is not what it descends "
                             "(set target forget)")
        return self

    @property
    def needs(self) -> tuple[Need, ...]:
        """No keep in steps of its own: they would be refreshed too, on the loss that must stay low."""
        return ("no keep between", "whole weights")

    @property
    def rule(self) -> Refresh:
        """The same as continual learning writes it."""
        own = {name: getattr(self, name) for name in Ascents.model_fields}
        return Refresh(**own, norm="fisher" if self.norm == "whole" else self.norm)

    def prepare(self, params: Mapping[str, Parameter], erase: Term, context: TrainContext) -> RefreshedStepper:
        """Starts counting steps; the count is checkpointed.

        Raises:
            UserError: weights in half precision, which such small steps would not move.
        """
        refresher = Refresher(self.rule, params, seed=self.seed)
        return RefreshedStepper(self, refresher, torch.tensor(0), self.update.prepare(params, erase, context))


@dataclass(frozen=True)
class RefreshedStepper:
    """Refresh at work.

    Attributes:
        settings: its own; refresher: the ascents; done: int64 scalar, steps so far; within: the wrapped update.
    """

    settings: Refreshed
    refresher: Refresher
    done: Tensor
    within: Stepper

    @property
    def state(self) -> Mapping[str, Tensor]:
        """The count of steps and what the wrapped update keeps."""
        return {"refresh/done": self.done, **self.within.state}

    def step(self, losses: StepLosses, descent: Descent) -> Losses:
        """An ascent where one is due, then the wrapped update's step.

        Returns:
            Its losses; "refresh": the relative length of the ascent, 0 where none was made.
        """
        own = {name: Remembered(loss) for name, loss in losses.items()}
        hold = None if descent.hold is None else Remembered(descent.hold)
        known = [*own.values(), *([] if hold is None else [hold])]
        climbed = known if self.settings.target == "full" else [own["erase"]]
        ascent = self.refresher.ascend(int(self.done), lambda: torch.stack([loss.look() for loss in climbed]).sum(),
                                       _masks(self.within), shared=True)
        for loss in known:
            loss.settle(ascent is not None and ascent.current)
        values = self.within.step(own, replace(descent, hold=hold))
        self.done.add_(1)
        return {**values, "refresh": 0.0 if ascent is None else ascent.relative}


def _masks(stepper: Stepper) -> Mapping[str, Tensor] | None:
    """The masks of a masked update at any depth; None without one."""
    while isinstance(stepper, DualStepper):
        stepper = stepper.within
    return stepper.masks if isinstance(stepper, MaskedStepper) else None
