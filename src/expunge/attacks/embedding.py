"""What attacks that learn embeddings share: knobs, budget, and the loss of a denoiser told embeddings.

With x0 the latent of an image that shows the concept and c(e) the text states with the embeddings e in them,

    L(e) = E over t, eps of  mean |target(x0, eps, t) - f_edited(x_t | c(e))|^2        (`finetune.diffusion_loss`),

the edited model left as it is. In every step the times of an image's noised copies are spread over the whole grid, one
in each of equal parts. The embeddings are asked `looks` times on the way, so that success is known against budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, final

import torch
from torch import Generator, Tensor

from expunge.attacks.aims import check_pictures
from expunge.attacks.base import Access, Attack, Searches
from expunge.attacks.victim import Item, Victim, picture_rows
from expunge.config import knob
from expunge.models.model import Model
from expunge.records import Request, Sampler, Spent


class LearnedEmbedding(Attack):
    """Learn embeddings in the edited model, asking for the concept with them now and then."""

    access: ClassVar[Access] = "embedding, white box"
    white_box: ClassVar[bool] = True
    searches: ClassVar[Searches] = "embeddings"

    steps: int = knob(100, "optimisation steps", ge=1)
    rows: int = knob(2, "noised images per step", ge=1)
    learning_rate: float = knob(1e-2, "Adam step size", gt=0.0)
    looks: int = knob(5, "times that the embeddings are asked on the way, evenly spaced, the end included", ge=1,
                      unit="images")

    def check(self, victim: Victim, request: Request, items: Sequence[Item]) -> None:
        """Raise UserError for images of no use."""
        check_pictures(victim)

    @final
    def budget(self, sampler: Sampler) -> Spent:
        """All steps, and an image at every look."""
        looks = len(self.look_steps())
        return Spent(gradient_steps=self.steps, images=looks,
                     network_rows=3 * self.rows * self.steps + looks * picture_rows(sampler))

    def look_steps(self) -> list[int]:
        """Numbers of steps after which the embeddings are asked."""
        return sorted({max(1, round(self.steps * k / self.looks)) for k in range(1, self.looks + 1)})


def spread_times(model: Model, count: int, generator: Generator) -> Tensor:
    """t float32 (count,) on the CPU, one in each of `count` equal parts of the model's training times."""
    spread = (torch.arange(count) + torch.rand(count, generator=generator)) / count
    return model.process.schedule.quantile(spread)
