"""Gradient projection: steps of keys and values that leave alone what these make of other prompts.

    dW <- dW (I - U U^T),   U (D, r) the leading eigenvectors of C C^T, C the text states (D, n) of prompts to keep

for W (out, D). The r directions are the fewest that hold a share `energy` of the states' second moment; with all of
them the step would be zero wherever the kept states span all of D, as they soon do where every position counts.

Source: CUIG (2511.07970). Differs: the step is projected and not the gradient, for Adam's scaling leads a projected
gradient out of the null space again; all positions of the prompts, and of their directions the fewest that hold
`energy`, where CUIG has all of them and a ridge.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import Parameter

from expunge.config import Settings, Slot, knob
from expunge.errors import ConfigError
from expunge.models.model import Model
from expunge.registry import UPDATES
from expunge.train import Losses
from expunge.unlearn.context import TrainContext
from expunge.unlearn.needs import Need
from expunge.unlearn.objective import Term
from expunge.unlearn.subspace import along, leading
from expunge.unlearn.update import Descent, Plain, StepLosses, Stepper, Update


class Projection(Settings):
    """How much of what other prompts use no step may touch.

    It acts on keys and values of text states alone; other parameters step as they like.
    """

    energy: float = knob(0.99, "Share of the kept prompts' second moment whose directions no step may touch", gt=0.0,
                         le=1.0)


class Projected(Projection):
    """Another update, whose steps of keys and values are projected away from the request's prompts to keep."""

    kind: Literal["projected"] = "projected"
    within: ClassVar[tuple[str, ...]] = ("dual", "refresh")
    whole: ClassVar[str] = "it projects the steps of weights, and a step of factors is none of their product"
    update: Annotated[Update, Slot(UPDATES, "plain", inside="projected")] = knob(
        Plain(), "Update rule whose step is projected")

    @property
    def needs(self) -> tuple[Need, ...]:
        """Something to project."""
        return ("keys and values", "whole weights")

    def prepare(self, params: Mapping[str, Parameter], erase: Term, context: TrainContext) -> ProjectedStepper:
        """Finds the directions: always the same ones for the same prompts, so that they need not be checkpointed."""
        directions = kept_directions(context.student, ("", *context.request.keep), self)
        return ProjectedStepper(self.update.prepare(params, erase, context), directions,
                                keys_and_values(context.student, params))


@dataclass(frozen=True)
class ProjectedStepper:
    """A stepper around another one.

    Attributes:
        within: the wrapped update. directions: (D, r), orthonormal. layers: weights (out, D) to project, by name.
    """

    within: Stepper
    directions: Tensor
    layers: Mapping[str, Parameter]

    @property
    def state(self) -> Mapping[str, Tensor]:
        """The wrapped update's."""
        return self.within.state

    def step(self, losses: StepLosses, descent: Descent) -> Losses:
        """The wrapped update's step, projected afterwards."""
        before = {name: W.detach().clone() for name, W in self.layers.items()}
        values = self.within.step(losses, descent)
        with torch.no_grad():
            for name, W in self.layers.items():
                dW = W - before[name]
                W.copy_(before[name] + dW - along(dW, self.directions))
        return values


@torch.no_grad()
def kept_directions(model: Model, prompts: Sequence[str], settings: Projection) -> Tensor:
    """(D, r), orthonormal: the directions of text states of `prompts` that no step may touch."""
    return leading(torch.cat([model.encode([text]).states[0] for text in prompts]), settings.energy).float()


def keys_and_values(model: Model, params: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """Those of `params` that make keys or values of text states: what projection acts on.

    Raises:
        ConfigError: there are none.
    """
    known = model.reading_text()
    layers = {name: p for name, p in params.items() if name in known and p.ndim == 2}
    if not layers:
        raise ConfigError("projection where no keys or values of text states train",
                          accepted="a scope with xattn.kv in it", remedy="another scope, or no projection")
    return layers
