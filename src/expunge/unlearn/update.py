"""How gradients become a step.

Updates take closures, each one forward that is asked for once per backward: gradient surgery needs two
backwards, refresh learning a third, and a loss tensor would come too late for them. Wrappers compose:
Refreshed(update=Masked(update=Plain())).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.utils import clip_grad_norm_
from torch.optim import Optimizer
from typing_extensions import Self

from expunge.config import Settings, Slot, knob
from expunge.registry import UPDATES
from expunge.train import Losses
from expunge.unlearn.context import TrainContext
from expunge.unlearn.objective import Term

LossFn = Callable[[], Tensor]
"""One forward; the scalar loss, with gradient."""
StepLosses = Mapping[Literal["erase", "keep"], LossFn]
"""What a step descends, by name: the erase loss, and the keep's beside it where there is one; or the keep's alone."""


@dataclass(frozen=True)
class Descent:
    """How every step ends, whatever made its gradients.

    Attributes:
        params: what moves, by name; their gradients are there when it is called. optimizer: what moves them.
        hold: what holds on to earlier edits, one loss: added as it is, in no bargain between the others.
    """

    params: Mapping[str, Parameter]
    optimizer: Optimizer
    hold: LossFn | None = None

    def __call__(self, clip: float | None) -> Losses:
        """Add the hold's gradient, clip all to an L2 norm of `clip`, step; {"hold": ...}, empty where there is none."""
        held = {} if self.hold is None else {"hold": backward(self.hold)}
        if clip is not None:
            clip_grad_norm_(self.params.values(), clip)
        self.optimizer.step()
        return held


class Stepper(Protocol):
    """An update at work. What it changes over the steps beside parameters, in `state`, is checkpointed."""

    @property
    def state(self) -> Mapping[str, Tensor]: ...

    def step(self, losses: StepLosses, descent: Descent) -> Losses:
        """One optimisation step.

        Returns:
            The losses by name, and "hold" where there is one.
        """
        ...


class Update(Protocol):
    """Settings of an update. A class may say `within`: kinds of the updates that it may stand inside."""

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        """Its settings, JSON-able."""
        ...

    def prepare(self, params: Mapping[str, Parameter], erase: Term, context: TrainContext) -> Stepper:
        """A stepper; `erase` is there for updates that first look at its gradients (saliency masks)."""
        ...


AnyUpdate = Annotated[Update, Slot(UPDATES, "plain")]
"""Any registered update, by its kind, or an object."""


class Stateless(Settings):
    """What updates share that keep nothing between steps and ask for each loss once in each: they are the stepper."""

    @property
    def state(self) -> Mapping[str, Tensor]:
        """Nothing."""
        return {}

    def prepare(self, params: Mapping[str, Parameter], erase: Term, context: TrainContext) -> Self:
        """Itself: it learns nothing."""
        return self


class Plain(Stateless):
    """Add the gradients of all losses, clip them if asked, step. One loss's graph is in memory at a time."""

    kind: Literal["plain"] = "plain"
    within: ClassVar[tuple[str, ...]] = ("masked", "dual", "refresh", "projected", "lookahead")
    max_grad_norm: float | None = knob(None, "Largest L2 norm of the whole gradient; none leaves it alone", gt=0.0,
                                       former="clip")

    def step(self, losses: StepLosses, descent: Descent) -> Losses:
        """One backward per loss, then the descent."""
        descent.optimizer.zero_grad(set_to_none=True)
        values: Losses = {name: backward(loss) for name, loss in losses.items()}
        return {**values, **descent(self.max_grad_norm)}


def backward(loss: LossFn) -> float:
    """Add the loss's gradient to the parameters'; the loss."""
    value = loss()
    value.backward()
    return float(value.detach())


def gradients(loss: LossFn, params: Mapping[str, Parameter]) -> tuple[float, list[Tensor]]:
    """The loss, and its gradient by parameter, in order; zeros where it does not reach. Leaves every `grad` alone."""
    value = loss()
    grads = torch.autograd.grad(value, list(params.values()), allow_unused=True)
    known = [torch.zeros_like(p) if grad is None else grad for p, grad in zip(params.values(), grads, strict=True)]
    return float(value.detach()), known
