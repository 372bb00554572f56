"""Concept Ablation: told of the concept, predict what is predicted for its anchor.

    loss = mean |eps_theta(x_t | c*) - eps_a(x_t | c)|^2,

c* a prompt of the concept, c the same prompt with the anchor in its place, x_t one and the same on both sides.

Source: Kumari et al. 2023 (Ablating Concepts in Text-to-Image Diffusion Models), eqs. 5 and 6.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from expunge.config import Settings, knob
from expunge.unlearn.adversary import Attacker
from expunge.unlearn.anchor import AnchorModel, anchor_predictor
from expunge.unlearn.context import NoisyBatch, Stream, TrainContext
from expunge.unlearn.divergence import SQUARED, AnyDivergence, divergence
from expunge.unlearn.needs import Need
from expunge.unlearn.objective import Term, attacked, regression


class Ablate(Settings):
    """Map the concept onto its anchor.

    "prediction" (the paper's model-based form) regresses to what is predicted for the anchor; "noise" (its noise-based
    form) to the noise that was put on an image of the anchor, or to v where the model predicts that.

    Source: Concept Ablation (c11fb1b, diffusers form). Differs: no mask over the borders of shrunken images, for none
        are shrunken; the anchor's prediction is the frozen teacher's unless `anchor_model` is "student".
    """

    kind: Literal["ablate"] = "ablate"
    towards: Literal["prediction", "noise"] = knob(
        "prediction", "Regress to the prediction for the anchor, or to the noise on an image of it")
    anchor_model: AnchorModel = knob(
        "frozen", "Who predicts for the anchor: the frozen teacher, or the student itself without gradient",
        source="Concept Ablation: student; DoCo: frozen")
    loss: AnyDivergence = knob(SQUARED, "Divergence from the target")

    @property
    def needs(self) -> tuple[Need, ...]:
        """Anchors, and images with noise of their own to regress to."""
        return ("anchor", "noised images") if self.towards == "noise" else ("anchor",)

    def prepare(self, context: TrainContext, stream: Stream, attacker: Attacker | None) -> Term:
        """Regression to the anchor's prediction, or to the noise."""
        if self.towards == "noise":
            return regression(context, stream, lambda points: noise_target(context, points), attacker, self.loss)
        predicted = anchor_predictor(context, self.anchor_model)
        if self.anchor_model == "frozen":
            return regression(context, stream, predicted, attacker, self.loss)

        def loss(number: int, points: NoisyBatch, out: Tensor) -> Tensor:
            """Its target moves with the student: there is nothing to tabulate."""
            return divergence(self.loss, out, predicted(points))

        return attacked(context, stream, loss, attacker)


def noise_target(context: TrainContext, points: NoisyBatch) -> Tensor:
    """What a network in training is asked for at noised images: eps, v or velocity, (B, c, h, w).

    Raises:
        ExpungeError: the points are not noised images.
    """
    x0, eps = points.made_of
    return context.teacher.process.target(x0, eps, points.t)
