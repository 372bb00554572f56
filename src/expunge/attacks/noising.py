"""Noise an image of the concept and let the edited model finish it.

With a strength s in (0, 1), n sampling steps and k = n - round(s n) the grid point that leaves s n steps to do,

    x_k = sqrt(abar_k) x0 + sqrt(1 - abar_k) eps,      x_k -> x_n = image      by the edited model's own steps.

At small s any denoiser gives the image back, and even none at all leaves it visible under the noise: that proves
nothing about what the model knows. At s = 1 nothing of the image is left. Strengths are tried from the strongest
down, so that a success is recorded at the strongest noise at which it held.

The default strengths are those at which the null control fails. Found of 8 with the empty prompt, church, embedded
model (weights 1ccf84fc), by `python benchmarks/null_control.py`:

    strength         0.9  0.8  0.7  0.6  0.5  0.3
    unedited           0    1    2    5    6    8
    random weights     0    0    0    0    0    2

With the item's own prompt: 8 and 8 at 0.9 and 0.7 unedited, none from random weights.

Source: the diffusion-completion probe of "When Are Concepts Erased from Diffusion Models?" (2025). Differs: it starts
from the clean image's noised latent and not from another model's half-way sample; the null control.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import Field
from torch import Tensor

from expunge.attacks.base import item_generator, item_noise
from expunge.attacks.reference import (
    FromPicture,
    References,
    Rung,
    Words,
    finish,
    latents_of,
    seen_as,
    unguided_if_empty,
)
from expunge.attacks.victim import Goal, Item, Victim, picture_rows
from expunge.config import knob
from expunge.errors import UserError
from expunge.models.model import Model
from expunge.records import Request, Sampler, Spent
from expunge.records.pictures import MOST_STEPS


class Noising(FromPicture):
    """Finish a noised image of the concept."""

    source: ClassVar[str] = "When Are Concepts Erased from Diffusion Models? 2025: diffusion completion"

    strengths: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = knob(
        (0.9, 0.8, 0.7), "shares of the sampler's steps left to the edited model, in the order in which they are tried",
        min_length=1)
    words: tuple[Words, ...] = knob(("empty", "own"), "what the model is told at every strength, in turn: the empty "
                                    "prompt, or the item's own with guidance", min_length=1)

    def check(self, victim: Victim, request: Request, items: Sequence[Item]) -> None:
        """UserError: no or wrong images, or a strength that is no proper part of the sampler's steps."""
        super().check(victim, request, items)
        steps = victim.sampler.steps
        wrong = [s for s in self.strengths if not 0 < start_point(s, steps) < steps]
        if wrong:
            enough = next((more for more in range(steps + 1, MOST_STEPS + 1) if all(
                0 < start_point(s, more) < more for s in self.strengths)), None)
            more_steps = f"{enough} steps or more (--steps), or " if enough else ""
            raise UserError(f"noising at strength {wrong[0]} with {steps} sampling steps",
                            accepted=f"{0.5 / steps:.3g} to {1 - 0.5 / steps:.3g}",
                            remedy=f"{more_steps}other strengths (--set options.noising.strengths=[0.5])")

    def budget(self, sampler: Sampler) -> Spent:
        """One image per strength and wording, each of so many of the sampler's steps."""
        return Spent(images=len(self.strengths) * len(self.words),
                     network_rows=sum(picture_rows(unguided_if_empty(sampler, words), strength)
                                      for strength in self.strengths for words in self.words))

    def rungs(self, victim: Victim, given: References, goal: Goal) -> list[Rung]:
        """Every strength with every wording."""
        x0 = latents_of(victim.model, given.pictures)
        return [self._rung(victim, x0, strength, words) for strength in self.strengths for words in self.words]

    def _rung(self, victim: Victim, x0: Tensor, strength: float, words: Words) -> Rung:
        model, steps = victim.model, victim.sampler.steps
        start = start_point(strength, steps)

        def pictures(places: Sequence[int], items: Sequence[Item]) -> Tensor:
            stream = f"strength {strength} {words}"
            eps = item_noise([item_generator(self, item, stream) for item in items], x0.shape[1:])
            x = _noised(model, x0[list(places)], eps, steps, start)
            return seen_as(model, finish(victim, x, [prompt.text for prompt, _ in items], words, start))

        return Rung(f"strength {strength:g} with the {words} prompt", pictures,
                    victim.rows(unguided_if_empty(victim.sampler, words), strength))


def _noised(model: Model, x0: Tensor, eps: Tensor, steps: int, start: int) -> Tensor:
    """x0 (B, c, h, w) at the noise level of grid point `start`."""
    process = model.process_for(x0)
    return process.noised(x0, eps.to(x0.device), process.schedule.grid(steps)[start].repeat(len(x0)))


def start_point(strength: float, steps: int) -> int:
    """The grid point from which `strength` of the steps are left."""
    return steps - round(strength * steps)
