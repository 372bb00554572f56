"""Objectives that say what a prompt should bring by another's: wrong labels (SalUn), or by nothing at all: noise.

Both want the concept's own images with noise on them (source "noised"), as their papers do, and work on trajectories
too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from expunge.config import Settings, knob
from expunge.train import step_generator
from expunge.unlearn.ablation import noise_target
from expunge.unlearn.adversary import Attacker
from expunge.unlearn.anchor import anchored
from expunge.unlearn.context import NoisyBatch, Stream, TrainContext
from expunge.unlearn.divergence import SQUARED, AnyDivergence, divergence
from expunge.unlearn.needs import Need
from expunge.unlearn.objective import Term, attacked


class Relabel(Settings):
    """The student predicts for the concept's prompt what it (or the teacher) predicts for a wrong one.

        loss = mean |eps_theta(x_t | c) - stopgrad eps(x_t | y)|^2, or another divergence of the two

    with y the prompt with the anchor in the concept's place, or, where the concept has no anchor, one of the request's
    `keep`, drawn anew for every item of every step.

    Which weights matter (`update` "masked") is read off the gradient of the denoising loss on the concept's images,
    under classifier-free guidance as the model would draw them:

        -mean |(1 + g) eps_theta(x_t | c) - g eps_theta(x_t | "") - eps|^2

    Source: SalUn (Fan et al. 2024); random_label.py, generate_mask.py@a6e89fd. Differs: both predictions see the same
        x_t (theirs: two draws from the autoencoder's posterior); y is drawn or named, not the next of ten classes; v
        in place of eps where the model predicts v.
    """

    kind: Literal["relabel"] = "relabel"
    by: Literal["student", "teacher"] = knob("student", "Whose prediction for the wrong prompt", source="SalUn")
    guidance: float = knob(7.5, "Guidance g of the predictions that the mask is made from; on trajectories, where "
                           "there is no eps to compare with, the mask is made from the loss itself", ge=0.0, le=50.0,
                           source="SalUn generate_mask.py")
    loss: AnyDivergence = knob(SQUARED, "Divergence from the wrong prompt's prediction")

    @property
    def needs(self) -> tuple[Need, ...]:
        """Something else to call the concept."""
        return ("another prompt",)

    def prepare(self, context: TrainContext, stream: Stream, attacker: Attacker | None) -> Term:
        """Regression to what a wrong prompt brings."""
        wrong = WrongPrompts(context)

        def loss(number: int, points: NoisyBatch, out: Tensor) -> Tensor:
            return divergence(self.loss, out, wrong.predict(self.by, points, number))

        term, plain = (attacked(context, stream, loss, who) for who in (attacker, None))

        def saliency(number: int) -> Tensor:
            points = stream.draw(number)
            return plain.loss(number) if points.eps is None else self._denoising(context, points)

        return replace(term, saliency=saliency)

    def _denoising(self, context: TrainContext, points: NoisyBatch) -> Tensor:
        student, x_t, t = context.student, points.x_t, points.t
        null = context.null().repeat(len(t))
        of_concept, of_null = (student.predict(x_t, t, cond) for cond in (context.condition(points), null))
        guided = (1.0 + self.guidance) * of_concept - self.guidance * of_null
        return (guided - noise_target(context, points)).square().mean()


class WrongPrompts:
    """What the concept's prompts are to be taken for. Their text states are encoded once."""

    def __init__(self, context: TrainContext) -> None:
        self._context, request = context, context.request
        anchors = [anchored(prompt, request.target_of(prompt)) for prompt in request.all_prompts]
        self._texts = tuple(dict.fromkeys((*anchors, *request.keep)))
        with torch.no_grad():
            self._known = context.teacher.encode(self._texts)

    def of(self, prompts: Sequence[str], number: int) -> tuple[str, ...]:
        """A wrong prompt for each of `prompts` in step `number`: its anchor prompt, or one of the request's `keep`."""
        request = self._context.request
        generator = step_generator(self._context.seed, number, "erase/wrong")
        pick = torch.randint(max(1, len(request.keep)), (len(prompts),), generator=generator)
        targets = [request.target_of(prompt) for prompt in prompts]
        return tuple(anchored(prompt, target) if target.anchor else request.keep[int(i)]
                     for prompt, target, i in zip(prompts, targets, pick, strict=True))

    @torch.no_grad()
    def predict(self, by: Literal["student", "teacher"], points: NoisyBatch, number: int) -> Tensor:
        """(B, c, h, w), no gradient: the prediction for the wrong prompts at `points`."""
        context, texts = self._context, self.of(points.prompts, number)
        known = self._known.at(torch.tensor([self._texts.index(text) for text in texts]))
        if by == "teacher":
            return context.teacher.predict(points.x_t, points.t, known)
        return context.student.predict(points.x_t, points.t, context.conditioning(texts, known))


class Noise(Settings):
    """The student predicts noise that has nothing to do with the image, drawn anew in every step.

        loss = mean |eps_theta(x_t | c) - n|^2, or another divergence of the two,   n uniform in [0, 1) or N(0, I)

    It has no minimum that draws anything: the best answer is the noise's mean, everywhere.

    Source: Wu et al. 2024 (EraseDiff): uniform; normal is noise that does not match x_t's own. Differs: native output,
        whatever it stands for.
    """

    kind: Literal["noise"] = "noise"
    noise: Literal["uniform", "normal"] = knob("uniform", "Distribution of the noise", source="EraseDiff: uniform")
    loss: AnyDivergence = knob(SQUARED, "Divergence from the noise")

    def prepare(self, context: TrainContext, stream: Stream, attacker: Attacker | None) -> Term:
        """Regression to noise."""
        draw = torch.rand if self.noise == "uniform" else torch.randn

        def loss(number: int, points: NoisyBatch, out: Tensor) -> Tensor:
            noise = draw(points.x_t.shape, generator=step_generator(context.seed, number, "erase/noise"))
            return divergence(self.loss, out, noise.to(points.x_t.device))

        return attacked(context, stream, loss, attacker)
