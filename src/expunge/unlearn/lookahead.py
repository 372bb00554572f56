"""Look ahead to what relearning would make of the edit, and lower the erase loss there, too.

From the weights as they are, theta, K steps of fine-tuning on images of the concept lead to theta*. With lambda a
share,

    L_erase(theta) + lambda (L_erase(theta*) - L_erase(theta))

is descended beside the keep. Its gradient is taken to first order, d theta* / d theta = 1:

    g = (1 - lambda) grad L_erase(theta) + lambda grad L_erase(theta*),

so that no second derivative is needed. How the concept is relearned differs from step to step: the rule, its rate and
the number of steps are drawn.

Source: ResAlign (Li et al. 2025, NeurIPS), read in its code (AntigoneRandy/ResAlign@14775d3). Differs: first order (the
code iterates for a hypergradient); the erase loss is the recipe's own, which is bounded, and not the negative denoising
loss; moments of the inner optimizer begin at zero in each step; nothing that goes wrong is passed over; plain descent
and the least of the published rates are left out of the defaults, for they move a LoRA, whose product begins at zero,
by next to nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import Parameter
from torch.nn.functional import mse_loss
from torch.optim import SGD, Adam, Optimizer

from expunge.config import Settings, Slot, knob
from expunge.registry import UPDATES
from expunge.train import Losses, step_generator
from expunge.unlearn.ablation import noise_target
from expunge.unlearn.context import NoisyBatch, Stream, TrainContext
from expunge.unlearn.needs import Need
from expunge.unlearn.noised import NoisedPictures
from expunge.unlearn.objective import Term
from expunge.unlearn.update import Descent, Plain, StepLosses, Stepper, Update, gradients

Rate = Annotated[float, Field(gt=0.0)]
Length = Annotated[int, Field(ge=1)]


class Lookahead(Settings):
    """Another update, on the erase loss as it is and as it would be after some relearning.

    An inner adversary attacks the weights as they are; what it finds is told at theta*, too.
    """

    kind: Literal["lookahead"] = "lookahead"
    share: float = knob(0.8, "Share of the loss after relearning (lambda); 0 looks at the weights as they are alone",
                        ge=0.0, le=1.0, source="ResAlign: 0.8")
    rules: tuple[Literal["descent", "adam"], ...] = knob(
        ("adam",), "How weights move while they relearn: one of these in each step", min_length=1,
        source="ResAlign: both")
    rates: tuple[Rate, ...] = knob((1e-5, 1e-4), "Step sizes of relearning: one of these in each step",
                                   min_length=1, source="ResAlign: 1e-6 to 1e-4")
    lengths: tuple[Length, ...] = knob((5, 10, 20, 30), "Steps of relearning: one of these in each step", min_length=1,
                                       source="ResAlign: 5 to 30")
    batch: int = knob(1, "Noised images in each step of relearning", ge=1)
    source: NoisedPictures = knob(NoisedPictures(pictures=16), "Images of the concept that are relearned from")
    update: Annotated[Update, Slot(UPDATES, "plain", inside="lookahead")] = knob(Plain(), "Update rule")

    @property
    def copies(self) -> int:
        """Numbers beside one gradient that it holds for each that trains: the weights and their gradient as they are,
        and two moments of the inner Adam."""
        return 4 if "adam" in self.rules else 2

    @property
    def needs(self) -> tuple[Need, ...]:
        """No keep in steps of its own, each of which would look ahead again."""
        return ("no keep between",)

    def prepare(self, params: Mapping[str, Parameter], erase: Term, context: TrainContext) -> LookaheadStepper:
        """Draws the images to relearn from."""
        stream = self.source.open(context, context.request.all_prompts, self.batch, "lookahead")
        return LookaheadStepper(self, context, stream, torch.tensor(0), self.update.prepare(params, erase, context))


@dataclass(frozen=True)
class LookaheadStepper:
    """Lookahead at work.

    Attributes:
        settings, context: as prepared. stream: noised images of the concept.
        done: int64 scalar, steps so far; within: the wrapped update.
    """

    settings: Lookahead
    context: TrainContext
    stream: Stream
    done: Tensor
    within: Stepper

    @property
    def state(self) -> Mapping[str, Tensor]:
        """The count of steps and what the wrapped update keeps."""
        return {"lookahead/done": self.done, **self.within.state}

    def step(self, losses: StepLosses, descent: Descent) -> Losses:
        """The wrapped update's step.

        Returns:
            Its losses, "erase" among them joined as above; "relearned": the erase loss at theta*.
        """
        settings, params = self.settings, descent.params
        now, here = gradients(losses["erase"], params)
        before = [p.detach().clone() for p in params.values()]
        try:
            self._relearn(params)
            later, there = gradients(losses["erase"], params)
        finally:
            with torch.no_grad():
                for p, own in zip(params.values(), before, strict=True):
                    p.copy_(own)
        joined = [torch.lerp(g, ahead, settings.share) for g, ahead in zip(here, there, strict=True)]
        loss = (1.0 - settings.share) * now + settings.share * later
        values = self.within.step({**losses, "erase": lambda: linear(loss, joined, params)}, descent)
        self.done.add_(1)
        return {**values, "relearned": later}

    def _relearn(self, params: Mapping[str, Parameter]) -> None:
        """Move the parameters along the denoising loss on images of the concept."""
        settings, number = self.settings, int(self.done)
        generator = step_generator(self.context.seed, number, "lookahead/way")
        pick = lambda options: options[int(torch.randint(len(options), (), generator=generator))]
        rule, rate, length = pick(settings.rules), pick(settings.rates), pick(settings.lengths)
        kinds: dict[str, Any] = {"descent": SGD, "adam": Adam}
        optimizer: Optimizer = kinds[rule](params.values(), lr=rate)
        longest = max(settings.lengths)
        for turn in range(length):
            loss = partial(self._denoising, self.stream.draw(number * longest + turn))
            for p, gradient in zip(params.values(), gradients(loss, params)[1], strict=True):
                p.grad = gradient
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def _denoising(self, points: NoisyBatch) -> Tensor:
        out = self.context.student.predict(points.x_t, points.t, self.context.condition(points))
        return mse_loss(out, noise_target(self.context, points))


def linear(value: float, gradient: list[Tensor], params: Mapping[str, Parameter]) -> Tensor:
    """A scalar of that value and that gradient at the parameters, as they are."""
    along = [(g * (p - p.detach())).sum() for g, p in zip(gradient, params.values(), strict=True)]
    return torch.stack(along).sum() + value
