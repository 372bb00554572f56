"""The denoising loss as retention: go on learning from images of what must stay.

    loss = mean |eps_theta(x_t | r) - eps|^2,   x_t = sqrt(abar_t) z + sqrt(1 - abar_t) eps,   z an image of r,

or with v in place of eps where the model predicts v. Its least value is not at the original weights: matching the
teacher's prediction (`keep.py`) is what keeps the original's images; this is what published methods use.

Source: Kumari et al. 2023 (Concept Ablation, --with_prior_preservation); Ruiz et al. 2023 (DreamBooth), eq. 2. Differs:
the target is eps or v, as the model predicts (the published code regresses to eps even where the model predicts v).
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn.functional import mse_loss

from expunge.config import Settings, knob
from expunge.unlearn.ablation import noise_target
from expunge.unlearn.anchor import anchor_prompts
from expunge.unlearn.context import TrainContext
from expunge.unlearn.needs import Need
from expunge.unlearn.noised import NoisedPictures
from expunge.unlearn.objective import Term


class Denoise(Settings):
    """The network's own training loss on images that the frozen teacher drew, of what must stay."""

    kind: Literal["denoise"] = "denoise"
    weight: float = knob(1.0, "Factor of the loss", gt=0.0, source="Concept Ablation prior_loss_weight; "
                         "DoCo without surgery: 0.1")
    batch: int = knob(4, "Points per step", ge=1)
    cadence: Literal["same", "between"] = knob(
        "same", "same: in the erase step; between: in optimizer steps of its own")
    steps: int = knob(1, "Keep steps after every erase step, when between", ge=1)
    on: Literal["keep", "anchor"] = knob(
        "keep", "Images of the prompts to keep and of the empty prompt, or of the anchors",
        source="Concept Ablation, DoCo: anchor")
    source: NoisedPictures = knob(NoisedPictures(), "The images")

    @property
    def needs(self) -> tuple[Need, ...]:
        """Anchors, where their images are what is kept."""
        return ("anchor",) if self.on == "anchor" else ()

    def prepare(self, context: TrainContext) -> Term:
        """The denoising loss, times `weight`."""
        request = context.request
        prompts = (tuple(dict.fromkeys(anchor_prompts(request.all_prompts, request))) if self.on == "anchor" else
                   ("", *(prompt for prompt in request.keep if prompt)))
        stream = self.source.open(context, prompts, self.batch, "keep")

        def loss(number: int) -> Tensor:
            points = stream.draw(number)
            out = context.student.predict(points.x_t, points.t, context.condition(points))
            return self.weight * mse_loss(out, noise_target(context, points))

        return Term(loss)
