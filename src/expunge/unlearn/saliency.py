"""Train only the weights that matter for the concept: those where its loss has the steepest gradient.

    G = sum over batches of grad_theta L_erase,   m = 1 where |G| is among the largest `share` of all entries, else 0,

ranked over all trained tensors together. What is not in the mask comes out of every step bit for bit as it went in,
whatever the optimizer does: its gradient is zero before the wrapped update sees it (so that clipping and projections
work within the mask), and its value is put back after the step (so that weight decay does not move it either).

Source: Fan et al. 2024 (SalUn, ICLR), eq. 4; generate_mask.py@a6e89fd. Differs: bool masks; entries without any
gradient are never chosen. The published training script did not apply the mask until May 2024 (its issue 15): without
one, use the wrapped update alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import Parameter

from expunge.config import Settings, Slot, knob
from expunge.errors import TrainingError
from expunge.registry import UPDATES
from expunge.train import Losses
from expunge.unlearn.context import TrainContext
from expunge.unlearn.needs import Need
from expunge.unlearn.objective import Term
from expunge.unlearn.update import Descent, Plain, StepLosses, Stepper, Update, gradients


class Masked(Settings):
    """Another update, on the most salient weights alone."""

    kind: Literal["masked"] = "masked"
    within: ClassVar[tuple[str, ...]] = ("dual", "refresh")
    share: float = knob(0.5, "Share of the scope's weights that train", gt=0.0, le=1.0, source="SalUn")
    draws: int = knob(100, "Batches over which the gradient is summed before the first step", ge=1,
                      source="SalUn: one pass over 800 images in batches of 8")
    update: Annotated[Update, Slot(UPDATES, "plain", inside="masked")] = knob(
        Plain(), "Update rule of the masked gradients")
    whole: ClassVar[str] = "it chooses single weights, of which a LoRA has none"

    @property
    def needs(self) -> tuple[Need, ...]:
        """Weights to choose among."""
        return ("whole weights",)

    def prepare(self, params: Mapping[str, Parameter], erase: Term, context: TrainContext) -> MaskedStepper:
        """Finds the mask: always the same one for the same weights, so that it need not be checkpointed.

        Raises:
            TrainingError: a gradient is not finite, or all are zero.
        """
        loss = erase.saliency or erase.loss
        masks = top_entries(summed_gradients(loss, params, context.stages.each(range(self.draws))), self.share)
        before = {name: p.detach().clone() for name, p in params.items()}
        return MaskedStepper(masks, before, self.update.prepare(params, erase, context))


@dataclass(frozen=True)
class MaskedStepper:
    """An update within a mask.

    Attributes:
        masks: bool, True where a parameter may change, by name; before: the parameters' values at the start.
        within: the wrapped update.
    """

    masks: Mapping[str, Tensor]
    before: Mapping[str, Tensor]
    within: Stepper

    @property
    def state(self) -> Mapping[str, Tensor]:
        """The wrapped update's."""
        return self.within.state

    def step(self, losses: StepLosses, descent: Descent) -> Losses:
        """The wrapped update's step, confined to the mask."""
        with self._masking(descent.params):
            values = self.within.step(losses, descent)
        with torch.no_grad():
            for name, p in descent.params.items():
                p.copy_(torch.where(self.masks[name], p, self.before[name]))
        return values

    @contextmanager
    def _masking(self, params: Mapping[str, Parameter]) -> Iterator[None]:
        """Inside, every gradient that reaches a parameter is zero outside its mask."""
        hooks = [p.register_hook(partial(torch.mul, self.masks[name])) for name, p in params.items()]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def summed_gradients(loss: Callable[[int], Tensor], params: Mapping[str, Parameter], steps: Iterable[int]
                     ) -> dict[str, Tensor]:
    """Signed sum of the loss's gradients over the steps; zero for what the loss does not reach."""
    total = {name: torch.zeros_like(p) for name, p in params.items()}
    for number in steps:
        _, grads = gradients(partial(loss, number), params)
        for mine, grad in zip(total.values(), grads, strict=True):
            mine += grad
    return total


def top_entries(scores: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Bool masks of the `share` of all entries with the largest absolute score; fewer where scores tie at the border.

    Raises:
        TrainingError: a score is not finite, or no entry is chosen.
    """
    flat = torch.cat([score.abs().flatten() for score in scores.values()])
    if not bool(flat.isfinite().all()):
        raise TrainingError("the gradient that is to choose the weights is not finite", accepted="finite gradients")
    left = flat.numel() - round(share * flat.numel())
    threshold = flat.kthvalue(left).values if left else flat.new_zeros(())
    masks = {name: score.abs() > threshold for name, score in scores.items()}
    if not any(bool(mask.any()) for mask in masks.values()):
        raise TrainingError(f"a share of {share:g} of the weights by gradient holds none",
                            accepted="a larger share, and an objective that asks for a change at the start")
    return masks
