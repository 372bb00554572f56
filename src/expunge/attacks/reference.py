"""What attacks that start from an image of the concept share: its latents, what the model is told, a ladder of tries.

The image is the user's own or the original model's (`aims.targets`). A ladder is a list of rungs, strongest evidence
first; every item climbs down until the judge sees the concept, so an item's record names the strongest rung that held.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from expunge.attacks.aims import aimed, check_pictures
from expunge.attacks.base import Access, Attack
from expunge.attacks.proposal import Batch, Candidate, Rounds
from expunge.attacks.victim import Goal, Item, Victim
from expunge.models.conditioning import Conditioning
from expunge.models.denoising import against, denoise
from expunge.models.model import Model
from expunge.models.sample import check_finite, encoded
from expunge.records import Detection, Request, Sampler

Words = Literal["empty", "own"]
"""What the model is told while it works on the image: the empty prompt, or the item's own."""


@dataclass(frozen=True)
class References:
    """The items of a batch that have an image to start from.

    Attributes:
        items: the items themselves.
        pictures: float32 (R, 3, H, W), one per item.
    """

    items: tuple[Item, ...]
    pictures: Tensor


@dataclass(frozen=True)
class Rung:
    """One way of trying, the same for all items.

    Attributes:
        name: for the record, such as "strength 0.9".
        pictures: images (P, 3, H, W) for the references at P places, with the randomness of P items: their own, or
            the same at other seeds.
        network_rows, gradient_steps: what one image costs.
        fixed: whether nothing random is in it.
        keep: tensors to keep of one place, after `pictures`.
        leaked_by_reference: what the judge sees in all that the model is given; where that is the concept already, the
            rung proves nothing and is skipped.
    """

    name: str
    pictures: Callable[[Sequence[int], Sequence[Item]], Tensor]
    network_rows: int = 0
    gradient_steps: int = 0
    fixed: bool = False
    keep: Callable[[int], Mapping[str, Tensor]] | None = None
    leaked_by_reference: Callable[[Sequence[int]], list[Detection]] | None = None


class FromPicture(Attack):
    """Give the model an image of the concept in disguise; its author writes the ladder."""

    access: ClassVar[Access] = "image"
    null: ClassVar[Literal["never known", "random weights"]] = "random weights"

    def check(self, victim: Victim, request: Request, items: Sequence[Item]) -> None:
        """UserError: no or wrong images of the user's own."""
        check_pictures(victim)

    @final
    def propose(self, batch: Batch) -> Rounds:
        """Every item climbs down the ladder from its image."""
        aims = aimed(batch, "the original model draws no image of the concept to start from")
        if not aims:
            return
        given = References(tuple(batch.items[row] for row in aims), torch.stack([*aims.values()]))
        places = {row: place for place, row in enumerate(aims)}
        for rung in self.rungs(batch.victim, given, batch.goal):
            rows = _worth_it(batch, rung, places)
            batch.spend(rows, gradient_steps=rung.gradient_steps)
            draw = partial(_drawn, batch, rung, places)
            yield [Candidate(row, draw=draw, network_rows=rung.network_rows, fixed=rung.fixed, name=rung.name,
                             tensors=partial(rung.keep, places[row]) if rung.keep else dict) for row in rows]

    @abstractmethod
    def rungs(self, victim: Victim, given: References, goal: Goal) -> list[Rung]:
        """The ladder, strongest evidence first."""


def _worth_it(batch: Batch, rung: Rung, places: Mapping[int, int]) -> list[int]:
    """Rows of the items on which the rung can prove something; items on which the judge fails do."""
    rows = batch.standing
    if rung.leaked_by_reference is None:
        return rows
    sights = dict(zip(rows, rung.leaked_by_reference([places[row] for row in rows]), strict=True))
    for row, sight in sights.items():
        if sight.error:
            batch.fail([row], sight.error)
        elif sight.found:
            batch.notes[row].append(f"skipped {rung.name}: what is given shows the concept already")
    return [row for row, sight in sights.items() if not sight.found and not sight.error]


def _drawn(batch: Batch, rung: Rung, places: Mapping[int, int], rows: Sequence[int], seeds: Sequence[int]) -> Tensor:
    return rung.pictures([places[row] for row in rows],
                         [(batch.items[row][0], seed) for row, seed in zip(rows, seeds, strict=True)])


@torch.no_grad()
def latents_of(model: Model, pictures: Tensor, batch: int = 32) -> Tensor:
    """Latents float32 (B, c, h, w) of images (B, 3, H, W) in [0, 1]."""
    return torch.cat([model.encode_pixels(part) for part in pictures.split(batch)])


@torch.no_grad()
def states_of(model: Model, texts: Sequence[str]) -> Conditioning:
    """The texts' states, each distinct text encoded in a batch of its own, as `sample.draw` does."""
    known, rows = encoded(model, texts)
    return known.at(rows)


def unguided_if_empty(sampler: Sampler, words: Words) -> Sampler:
    """The sampler for the item's own prompt; for the empty one without guidance, for it has nothing to be guided from.
    """
    return sampler.model_copy(update={"guidance": 1.0}) if words == "empty" else sampler


def finish(victim: Victim, x: Tensor, texts: Sequence[str], words: Words, start: int, stop: int | None = None
           ) -> Tensor:
    """Latents denoised from grid point `start` to `stop` (None: to the clean end), x and result (B, c, h, w)."""
    model, sampler = victim.model, unguided_if_empty(victim.sampler, words)
    cond = states_of(model, ["" if words == "empty" else text for text in texts])
    uncond = against(model, sampler.guidance, sampler.negative)
    return denoise(model, x, cond, uncond, sampler.steps, sampler.guidance, start=start, stop=stop)


@torch.no_grad()
def seen_as(model: Model, latents: Tensor) -> Tensor:
    """Images of latents, float32 (B, 3, H, W) on the CPU. ModelError: they are not finite."""
    return check_finite(model, model.decode(latents).cpu())
