"""DoCo's concept domain correction: outputs for the concept become indistinguishable from outputs for its anchor.

A discriminator D learns to tell y_a, what is predicted for the anchor, from y_s, what the student predicts for the
concept, at the same x_t and t; the student learns to be taken for the anchor:

    L_D = BCE(D(y_a), 1) + BCE(D(y_s), 0)                        (y_s without gradient)
    L   = BCE(D(y_s), 1)                                         (D frozen)

The domains are compared as distributions, so prompts that were never trained on may fall under it: what Concept
Ablation's squared distance asks of every sample, this asks of the whole.

Source: Wu et al. 2025 (DoCo, AAAI), concept domain correction; train.py, gan.py (9214ec4 to 80a2fa7, 1a36e61
to ebf6ff4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from expunge.config import Settings, knob
from expunge.models.model import Model
from expunge.unlearn.adversary import Attacker
from expunge.unlearn.anchor import AnchorModel, anchor_predictor
from expunge.unlearn.context import NoisyBatch, Stream, TrainContext
from expunge.unlearn.discriminator import Discriminator
from expunge.unlearn.needs import Need
from expunge.unlearn.objective import Term, tabulated

Form = Literal["native", "eps", "x0"]


class AlignDomains(Settings):
    """Adversarial alignment of the concept's output domain with the anchor's.

    The discriminator first learns alone for `warm_up` rounds, before the first step; the student does not move
    meanwhile, nor does the optimizer. Then every step takes one round of each.

    Differs from the published code: the discriminator learns from its own loss alone and is frozen while the student
    learns (`leak_release` is the published way); the student learns against the discriminator of its own step, not of
    the step before; the clean latent needs no scheduler and is never clamped.
    """

    kind: Literal["domain"] = "domain"
    form: Form = knob("native", "What of a prediction the discriminator sees: the network's output as it is, the noise "
                      "in it, or the clean latent", source="DoCo: eps until 2024-11-20, x0 after")
    time_weight: bool = knob(False, "Weigh each time by min(1, sqrt(SNR)) where the clean latent of an epsilon model "
                             "is seen, which amplifies its output up to 15 times at high noise; elsewhere nothing does")
    anchor_model: AnchorModel = knob(
        "frozen", "Who predicts for the anchor: the frozen teacher, or the student itself without gradient",
        source="DoCo: frozen")
    warm_up: int = knob(100, "Rounds of the discriminator before the first step", ge=0,
                        source="DoCo: 200 of 1000, later 1000 of 2000")
    discriminator: Discriminator = knob(Discriminator(), "The discriminator")
    leak_release: bool = knob(False, "After warm-up let the student's loss push the discriminator too, as the "
                              "published code does: half the label of outputs for the concept is then the anchor's")

    @property
    def needs(self) -> tuple[Need, ...]:
        """Anchors."""
        return ("anchor",)

    def prepare(self, context: TrainContext, stream: Stream, attacker: Attacker | None) -> Term:
        """The student's loss; the discriminator learns by the way, once per step."""
        game = Game(self, context, stream, attacker)
        return Term(game.loss, game.begin, game.state, {"discriminator": game.optimizer}, game.saliency)


class Game:
    """The discriminator, and the student's loss against it.

    `loss` depends on the step's number and the tensors in `state` alone, and may be asked for again in the same step:
    the discriminator learns from the first answer after `begin` only.

    Attributes:
        discriminator: frozen except while it learns; optimizer: its own.
        warmed: int64 (), rounds of warm-up done.
    """

    def __init__(self, settings: AlignDomains, context: TrainContext, stream: Stream, attacker: Attacker | None = None
                 ) -> None:
        device = context.student.initial_noise([0]).device
        self.discriminator = settings.discriminator.new(context.student.latent_shape, context.seed, device)
        self.optimizer = settings.discriminator.optimizer(self.discriminator)
        self.warmed, self._due = torch.tensor(0), False
        self._settings, self._context, self._stream, self._attacker = settings, context, stream, attacker
        self._anchor = _anchor_predictor(settings, context, stream)

    @property
    def state(self) -> dict[str, Tensor]:
        """What is checkpointed."""
        weights = {f"discriminator/{name}": p for name, p in self.discriminator.named_parameters()}
        return {**weights, "discriminator.warmed": self.warmed}

    def begin(self, number: int) -> None:
        """The discriminator learns once more: from the forward of the next loss that is asked for, and no other."""
        self._due = True

    def loss(self, number: int) -> Tensor:
        """How well the student's outputs for the concept are taken for the anchor's at step `number`."""
        if int(self.warmed) < self._settings.warm_up:
            self.warm_up()
        points = self._stream.draw(number)
        attacker = self._attacker
        cond = self._context.condition(points) if attacker is None else attacker.condition(number, points)
        out = self._context.student.predict(points.x_t, points.t, cond)
        if attacker is not None:
            attacker.saw(number, points, out)
        if self._due:
            self._due = False
            self.learn(points, out.detach(), leak=self._settings.leak_release)
        return self._against(out, points, anchor=True)

    def saliency(self, number: int) -> Tensor:
        """The same without an attack and without a lesson for the discriminator, but for its warm-up."""
        if int(self.warmed) < self._settings.warm_up:
            self.warm_up()
        points = self._stream.draw(number)
        out = self._context.student.predict(points.x_t, points.t, self._context.condition(points))
        return self._against(out, points, anchor=True)

    def warm_up(self) -> None:
        """Rounds of the discriminator alone, on draws that no step takes."""
        rounds, student = self._settings.warm_up, self._context.student
        for done in self._context.stages.each(range(int(self.warmed), rounds)):
            points = self._stream.draw(-1 - done)
            with torch.no_grad():
                out = student.predict(points.x_t, points.t, self._context.condition(points))
            self.learn(points, out)
        self.warmed.fill_(rounds)

    def learn(self, points: NoisyBatch, out: Tensor, leak: bool = False) -> float:
        """One round of the discriminator; returns its loss.

        Args:
            out: the student's native output for the concept, (B, c, h, w), no gradient.
            leak: add the student's loss, whose gradient the published code does not keep out.
        """
        with torch.enable_grad(), _learning(self.discriminator):
            loss = self._against(self._anchor(points), points, anchor=True) + self._against(out, points, anchor=False)
            if leak:
                loss = loss + self._against(out, points, anchor=True)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())

    def logits(self, points: NoisyBatch, out: Tensor) -> Tensor:
        """(B, 1, h', w'): for the anchor (above 0) or for the concept (below), by patch, of native outputs."""
        model, form = self._context.teacher, self._settings.form
        seen = out
        if form == "x0":
            seen = model.process.clean(out, points.x_t, points.t)
        elif form == "eps":
            seen = model.process.noise_in(out, points.x_t, points.t)
        time = points.t.to(out) * (2 / model.process.schedule.last) - 1
        logits: Tensor = self.discriminator(seen, points.x_t, time)
        return logits

    def _against(self, out: Tensor, points: NoisyBatch, anchor: bool) -> Tensor:
        """BCE of the logits against one label: mean over patches, weighted mean over the batch."""
        logits = self.logits(points, out)
        label = torch.full_like(logits, float(anchor))
        each = binary_cross_entropy_with_logits(logits, label, reduction="none").flatten(1).mean(1)
        if self._settings.time_weight:
            each = each * damping(self._context.teacher, self._settings.form, points)
        return each.mean()


def damping(model: Model, form: Form, points: NoisyBatch) -> Tensor:
    """(B,) min(1, sqrt(SNR)): by how much the clean latent of an epsilon model amplifies its output; else 1."""
    signal, noise = (level.flatten() for level in model.process.levels(points.t, points.x_t))
    amplified = (model.process.prediction, form) == ("epsilon", "x0")
    return (signal / noise).clamp(max=1.0) if amplified else torch.ones_like(signal)


def _anchor_predictor(settings: AlignDomains, context: TrainContext, stream: Stream) -> Callable[[NoisyBatch], Tensor]:
    """What is predicted for the anchor, tabulated where it can be."""
    predicted = anchor_predictor(context, settings.anchor_model)
    if settings.anchor_model == "student" or stream.pool is None:
        return predicted
    table = tabulated(context, stream.pool, predicted)
    return lambda points: table[points.rows]


@contextmanager
def _learning(discriminator: torch.nn.Module) -> Iterator[None]:
    """Inside, its parameters take gradients."""
    discriminator.requires_grad_(True)
    try:
        yield
    finally:
        discriminator.requires_grad_(False)
