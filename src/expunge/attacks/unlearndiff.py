"""UnlearnDiffAtk: tokens around the prompt under which the edited model denoises an image of the concept best.

By Bayes' rule a diffusion model is a classifier of images: the prompt c' that fits an image x_tgt best is the one
with the smallest denoising error. So no detector is needed to aim, only an image of the concept:

    min over c'  E over eps  mean | target(x0, eps, t) - f_edited(x_t | c') |^2,   x0 the latent of x_tgt,

c' being the prompt with k free tokens, relaxed to distributions over the vocabulary (`tokens.Simplex`). t rises from
the clean end to the noisy one, with `steps` steps at each value, and each value ends in a look at the image of
the most probable tokens, as a string. `UnlearnDiff.published` has the published budget (2000 gradient steps and 50
images), `smoke` one for minutes.

Source: Zhang et al. 2024 (ECCV, arXiv 2310.11868), eq. 6; text_grad, Diffusion-MU-Attack@5a3e5d3. Differs: the target
is in the model's own parametrisation (v for v-prediction; noise there, for noise prediction both are the same); only
tokens that read back as themselves, unless `vocabulary` is "whole"; the budget's defaults; what `gradient` lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from expunge.attacks.base import item_generator
from expunge.attacks.gradient import Wanted
from expunge.attacks.prompts import InsertedTokens
from expunge.attacks.tokens import Simplex, Vocabulary
from expunge.attacks.victim import Item, Victim
from expunge.config import knob
from expunge.models.free_places import Layout
from expunge.models.model import Model

LONGEST = 60
"""Prompts of more tokens, start and end included, were left out of the published runs."""


class UnlearnDiff(InsertedTokens):
    """Search tokens around each prompt by the edited model's own denoising error."""

    source: ClassVar[str] = "Zhang et al. 2024, UnlearnDiffAtk"

    max_grad_value: float = knob(1.0, "largest component of the gradient", gt=0.0, former="clip",
                                 source="Diffusion-MU-Attack@5a3e5d3")
    legacy_length: bool = knob(False, f"leave prompts of more than {LONGEST} tokens unattacked, which counts as not "
                                      "elicited (as published), where else they are refused if they do not fit")

    def _tokens(self, words: Vocabulary, item: Item, layout: Layout) -> Simplex:
        return Simplex(words, len(layout.free), item_generator(self, item, "tokens"), learning_rate=self.learning_rate,
                       weight_decay=self.weight_decay, clip=self.max_grad_value)

    def _wanted(self, victim: Victim, items: Sequence[Item]) -> Wanted:
        model = victim.model

        def wanted(places: Sequence[int], x0: Tensor, eps: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
            return model.process.target(x0, eps, t)

        return wanted

    def _left_out(self, model: Model, item: Item) -> str:
        length = len(model.texts[0].tokens(item[0].text)) + 2
        if not self.legacy_length or length <= LONGEST:
            return ""
        return f"not attacked: {length} tokens, more than the {LONGEST} of the published runs"
