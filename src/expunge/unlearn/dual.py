"""A constraint instead of a weight: erase as far as what must stay allows.

    min_theta L_erase(theta)   subject to   L_keep(theta) <= epsilon

by dual ascent on the Lagrangian L_erase + lambda (L_keep - epsilon): every step moves theta along its gradient, then

    lambda <- clamp(lambda + rho (L_keep - epsilon), 0, highest),

so that the weight of what must stay grows for as long as it suffers more than epsilon, and falls to 0 if it does not.
The bound may instead be on the erase loss: keep all that can be kept, subject to L_erase <= kappa.

Source: constrained unlearning by primal-dual steps, in a form of our own.
It fits over any keep and any objective, because an update is the only part that sees both losses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import Parameter

from expunge.config import Settings, Slot, knob
from expunge.registry import UPDATES
from expunge.train import Losses
from expunge.unlearn.context import TrainContext
from expunge.unlearn.needs import Need
from expunge.unlearn.objective import Term
from expunge.unlearn.update import Descent, Plain, StepLosses, Stepper, Update

_LEAST = 1e-8
"""Of the multiplier where it scales a loss: at 0 there would be no gradient for surgery to spare."""


class Dual(Settings):
    """Another update, with the weight of one loss found by dual ascent.

    A keep's own `weight` belongs to its loss: the bound is on what the keep reports, weight included.
    """

    kind: Literal["dual"] = "dual"
    within: ClassVar[tuple[str, ...]] = ("refresh",)
    bounded: Literal["keep", "erase"] = knob("keep", "The loss that must not exceed `bound`; the other is minimised")
    bound: float = knob(0.01, "Largest value of that loss (epsilon or kappa)", ge=0.0)
    start: float = knob(1.0, "Multiplier at the first step", ge=0.0)
    multiplier_rate: float = knob(10.0, "How much the multiplier rises per step and unit of excess (rho)", gt=0.0,
                                  former="rate")
    highest: float = knob(100.0, "Largest multiplier", gt=0.0)
    update: Annotated[Update, Slot(UPDATES, "plain", inside="dual")] = knob(
        Plain(), "How the Lagrangian's gradient becomes a step")

    @property
    def needs(self) -> tuple[Need, ...]:
        """Both losses in one step."""
        return ("keep beside",)

    def prepare(self, params: Mapping[str, Parameter], erase: Term, context: TrainContext) -> DualStepper:
        """Starts the multiplier, which is checkpointed."""
        within = self.update.prepare(params, erase, context)
        return DualStepper(self, torch.tensor(self.start, dtype=torch.float64), within)


@dataclass(frozen=True)
class DualStepper:
    """Dual ascent at work.

    Attributes:
        settings: its own; multiplier: float64 scalar, lambda now; within: the wrapped update.
    """

    settings: Dual
    multiplier: Tensor
    within: Stepper

    @property
    def state(self) -> Mapping[str, Tensor]:
        """The multiplier and what the wrapped update keeps."""
        return {"dual/multiplier": self.multiplier, **self.within.state}

    def step(self, losses: StepLosses, descent: Descent) -> Losses:
        """A step along the Lagrangian, then one of the multiplier.

        Returns:
            Both losses as they are, without the multiplier; "multiplier": its value in this step.
        """
        weight, bounded = float(self.multiplier), self.settings.bounded
        seen: list[float] = []

        def weighted() -> Tensor:
            value = losses[bounded]()
            seen.append(float(value.detach()))
            return max(weight, _LEAST) * value

        values = self.within.step({**losses, bounded: weighted}, descent)
        excess = seen[0] - self.settings.bound
        self.multiplier.add_(self.settings.multiplier_rate * excess).clamp_(0.0, self.settings.highest)
        return {**values, bounded: seen[0], "multiplier": weight}
