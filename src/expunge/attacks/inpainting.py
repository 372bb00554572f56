"""Hide a part of an image of the concept and let the edited model fill it in.

At every grid point the visible part m is put back at its own noise level, so that only the hole is the model's:

    x_k <- m (sqrt(abar_k) x0 + sqrt(1 - abar_k) eps) + (1 - m) x_k,      x_n <- m x0 + (1 - m) x_n.

x0 is the latent of the image whose hole is filled with the mean colour of what is visible: the autoencoder, too, sees
nothing of what is hidden. Where the judge finds the concept in that image already, the filled one proves nothing and
is not asked for. Masks are tried in turn, per item seeded; a hole is a union of latent cells.

Source: Lugmayr et al. 2022 (RePaint), eq. 8, algorithm 1 with one resampling (U = 1); the inpainting probe of "When Are
Concepts Erased from Diffusion Models?" (2025), which finds 62-69% for every method. Differs: deterministic steps in
the hole, one eps for all levels, the hidden part kept from the autoencoder, the check of the visible part, the null
control.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
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
from expunge.records import Detection, Sampler, Spent

Hole = Literal["centre", "half", "random"]
"""A box in the middle; one of the four halves; cells at random, each 2 x 2 latent cells."""


class Inpainting(FromPicture):
    """Fill in a hidden part of an image of the concept."""

    source: ClassVar[str] = "RePaint (Lugmayr et al. 2022), algorithm 1; When Are Concepts Erased? 2025: inpainting"

    holes: tuple[Hole, ...] = knob(("centre", "half", "random"), "what is hidden, in the order in which it is tried",
                                   min_length=1)
    hidden: float = knob(0.5, "share of the image that a centre box or random cells hide", gt=0, lt=1)
    words: Words = knob("own", "what the model is told: the empty prompt, or the item's own with guidance")

    def budget(self, sampler: Sampler) -> Spent:
        """One image per hole; each takes the NFE of an image of the sampler's."""
        rows = picture_rows(unguided_if_empty(sampler, self.words))
        return Spent(images=len(self.holes), network_rows=len(self.holes) * rows)

    def rungs(self, victim: Victim, given: References, goal: Goal) -> list[Rung]:
        """Every hole."""
        return [self._rung(victim, given, goal, hole) for hole in self.holes]

    def _rung(self, victim: Victim, given: References, goal: Goal, hole: Hole) -> Rung:
        model = victim.model
        side = (given.pictures.shape[2] // model.factor, given.pictures.shape[3] // model.factor)
        masks = torch.stack([visible(hole, side, self.hidden, item_generator(self, item, f"hole {hole}"))
                             for item in given.items])  # (R, 1, h, w)
        shown = covered(given.pictures, masks)
        x0 = latents_of(model, shown)

        def pictures(places: Sequence[int], items: Sequence[Item]) -> Tensor:
            generators = [item_generator(self, item, f"noise {hole}") for item in items]
            eps = item_noise(generators, x0.shape[1:]).to(x0.device)
            known = masks[list(places)].to(x0.device)
            return seen_as(model, filled(victim, x0[list(places)], known, eps, [p.text for p, _ in items], self.words))

        def leaked_by_reference(places: Sequence[int]) -> list[Detection]:
            return goal.see(shown[list(places)])

        return Rung(f"hole {hole}", pictures, victim.rows(unguided_if_empty(victim.sampler, self.words)),
                    leaked_by_reference=leaked_by_reference)


def filled(victim: Victim, x0: Tensor, known: Tensor, eps: Tensor, texts: Sequence[str], words: Words) -> Tensor:
    """Latents (B, c, h, w) that agree with x0 where `known` (B, 1, h, w) is 1 and are the model's elsewhere."""
    model, steps = victim.model, victim.sampler.steps
    process = model.process_for(x0)
    grid = process.schedule.grid(steps)
    x = eps.clone()
    for k in range(steps):
        at_level = process.noised(x0, eps, grid[k].repeat(len(x0)))
        x = finish(victim, known * at_level + (1 - known) * x, texts, words, k, k + 1)
    return known * x0 + (1 - known) * x


def visible(hole: Hole, side: tuple[int, int], hidden: float, generator: torch.Generator) -> Tensor:
    """Mask float32 (1, h, w): 1 where the image is shown, 0 in the hole; h, w = `side` in latent cells."""
    h, w = side
    mask = torch.ones(1, h, w)
    if hole == "centre":
        high, wide = _part(h, hidden**0.5), _part(w, hidden**0.5)
        top, left = (h - high) // 2, (w - wide) // 2
        mask[:, top:top + high, left:left + wide] = 0
    elif hole == "half":
        which = int(torch.randint(4, (1,), generator=generator))
        part = slice(0, (h, w)[which // 2] // 2) if which % 2 else slice((h, w)[which // 2] // 2, None)
        mask[(slice(None), part) if which < 2 else (slice(None), slice(None), part)] = 0
    else:
        rows, columns = -(-h // 2), -(-w // 2)
        cells = torch.ones(rows * columns)
        cells[torch.randperm(rows * columns, generator=generator)[:_part(rows * columns, hidden)]] = 0
        mask = cells.view(1, rows, columns).repeat_interleave(2, 1).repeat_interleave(2, 2)[:, :h, :w]
    return mask


def _part(count: int, share: float) -> int:
    """`share` of `count`, neither none nor all."""
    return max(1, min(count - 1, round(count * share)))


def covered(pictures: Tensor, masks: Tensor) -> Tensor:
    """Images (B, 3, H, W) with the hole of masks (B, 1, h, w) filled with the mean colour of what is visible."""
    factor = pictures.shape[2] // masks.shape[2]
    shown = masks.repeat_interleave(factor, 2).repeat_interleave(factor, 3)  # (B, 1, H, W)
    mean = (pictures * shown).sum((2, 3), keepdim=True) / shown.sum((2, 3), keepdim=True).clamp(min=1)
    return pictures * shown + mean * (1 - shown)
