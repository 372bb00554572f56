"""What attacks that start from a picture of the concept share: its latents, what the model is told, a ladder of tries.

The picture is the user's own or the original model's (`aims.targets`). A ladder is a list of rungs, strongest evidence
first; every item climbs down until the judge sees the concept, so an item's record names the strongest rung that held.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from expunge.attacks.aims import check_pictures, targets
from expunge.attacks.base import Access, Again, Attack, Goal, Item, Meter, Outcome, Victim
from expunge.models.conditioning import Conditioning
from expunge.models.denoising import against, denoise
from expunge.models.model import Model
from expunge.models.sample import check_finite, encoded
from expunge.records import Detection, Request, Sampler

Words = Literal["empty", "own"]
"""What the model is told while it works on the picture: the empty prompt, or the item's own."""


@dataclass(frozen=True)
class References:
    """The items of a batch that have a picture to start from.

    Attributes:
        rows: their places in the batch.
        items: the items themselves.
        pictures: float32 (R, 3, H, W), one per item.
    """

    rows: tuple[int, ...]
    items: tuple[Item, ...]
    pictures: Tensor


@dataclass(frozen=True)
class Rung:
    """One way of trying, the same for all items.

    Attributes:
        name: for the record, such as "strength 0.9".
        draw: pictures (P, 3, H, W) for the references at P places.
        network_rows, gradient_steps: what one picture costs.
        again: how to draw the picture of one place with other seeds; None where nothing random is in it.
        keep: tensors to keep of one place, after `draw`.
        given_away: what the judge sees in all that the model is given; where that is the concept already, the rung
            proves nothing and is skipped.
    """

    name: str
    draw: Callable[[Sequence[int]], Tensor]
    network_rows: int = 0
    gradient_steps: int = 0
    again: Callable[[int], Again] | None = None
    keep: Callable[[int], Mapping[str, Tensor]] | None = None
    given_away: Callable[[Sequence[int]], list[Detection]] | None = None


class FromPicture(Attack):
    """Give the model a picture of the concept in disguise; its author writes the ladder."""

    access: ClassVar[Access] = "image"
    null: ClassVar[Literal["never known", "random weights"]] = "random weights"

    def check(self, victim: Victim, request: Request, items: Sequence[Item]) -> None:
        """UserError: no or wrong pictures of the user's own."""
        check_pictures(victim)

    @final
    def run(self, victim: Victim, request: Request, items: Sequence[Item], goal: Goal) -> Iterator[Outcome]:
        """Every item climbs down the ladder from its picture."""
        lost: list[Outcome] = []
        given = references(victim, items, goal, lost)
        yield from lost
        if given.rows:
            yield from climbed(self.rungs(victim, given, goal), given, goal, len(items))

    @abstractmethod
    def rungs(self, victim: Victim, given: References, goal: Goal) -> list[Rung]:
        """The ladder, strongest evidence first."""


def rung(name: str, given: References, pictures: Callable[[Sequence[int], Sequence[Item]], Tensor], *, rows: int,
         given_away: Callable[[Sequence[int]], list[Detection]] | None = None,
         keep: Callable[[int], Mapping[str, Tensor]] | None = None) -> Rung:
    """A rung with randomness that belongs to the item: drawn with the item's own seed, and again with others.

    Args:
        pictures: pictures (P, 3, H, W) for the references at P places, with the randomness of P items.
        rows: rows of the network that a picture takes.
    """

    def draw(places: Sequence[int]) -> Tensor:
        return pictures(places, [given.items[place] for place in places])

    def redraw(place: int, seeds: Sequence[int]) -> Tensor:
        return pictures([place] * len(seeds), [(given.items[place][0], seed) for seed in seeds])

    def again(place: int) -> Again:
        return partial(redraw, place)

    return Rung(name, draw, network_rows=rows, again=again, keep=keep, given_away=given_away)


def references(victim: Victim, items: Sequence[Item], goal: Goal, lost: list[Outcome]) -> References:
    """The items with a picture of the concept; those without one are added to `lost` as failed."""
    found = targets(victim, items, goal)
    meter = Meter(len(items))
    lost += [Outcome(row, False, meter[row], error="the original model draws no picture of the concept to start from")
             for row, picture in enumerate(found) if picture is None]
    have = [(row, picture) for row, picture in enumerate(found) if picture is not None]
    rows = tuple(row for row, _ in have)
    pictures = torch.stack([picture for _, picture in have]) if have else torch.empty(0, 3, 1, 1)
    return References(rows, tuple(items[row] for row in rows), pictures)


@torch.no_grad()
def latents_of(model: Model, pictures: Tensor, batch: int = 32) -> Tensor:
    """Latents float32 (B, c, h, w) of pictures (B, 3, H, W) in [0, 1]."""
    return torch.cat([model.encode_pixels(part) for part in pictures.split(batch)])


@torch.no_grad()
def states_of(model: Model, texts: Sequence[str]) -> Conditioning:
    """The texts' states, each distinct text encoded in a batch of its own, as `sample.draw` does."""
    known, rows = encoded(model, texts)
    return known.at(rows)


def told(sampler: Sampler, words: Words) -> Sampler:
    """The sampler for the item's own prompt; for the empty one without guidance, for it has nothing to be guided from.
    """
    return sampler.model_copy(update={"guidance": 1.0}) if words == "empty" else sampler


def finish(victim: Victim, x: Tensor, texts: Sequence[str], words: Words, start: int, stop: int | None = None
           ) -> Tensor:
    """Latents denoised from grid point `start` to `stop` (None: to the clean end), x and result (B, c, h, w)."""
    model, sampler = victim.model, told(victim.sampler, words)
    cond = states_of(model, ["" if words == "empty" else text for text in texts])
    uncond = against(model, sampler.guidance, sampler.negative)
    return denoise(model, x, cond, uncond, sampler.steps, sampler.guidance, start=start, stop=stop)


@torch.no_grad()
def seen_as(model: Model, latents: Tensor) -> Tensor:
    """Pictures of latents, float32 (B, 3, H, W) on the CPU. ModelError: they are not finite."""
    return check_finite(model, model.decode(latents).cpu())


def climbed(rungs: Sequence[Rung], given: References, goal: Goal, count: int) -> Iterator[Outcome]:
    """Try the rungs in turn on every reference, each next one only on those that did not show the concept.

    Args:
        count: items in the batch, for the meter.
    """
    meter, standing = Meter(count), list(range(len(given.rows)))
    last: dict[int, Tensor] = {}
    notes: dict[int, list[str]] = {place: [] for place in standing}
    for rung in rungs:
        places, broken = _worth_it(rung, standing, notes)
        for place, error in broken.items():
            yield Outcome(given.rows[place], False, meter[given.rows[place]], error=error)
        pictures = rung.draw(places) if places else torch.empty(0)
        meter.add([given.rows[place] for place in places], network_rows=rung.network_rows,
                  gradient_steps=rung.gradient_steps, images=1)
        settled = set(broken)
        for place, picture, sight in zip(places, pictures, goal.see(pictures) if places else [], strict=True):
            last[place] = picture
            if sight.found or sight.error:
                settled.add(place)
                yield _settled(rung, place, given, picture, sight, meter, notes[place])
            else:
                notes[place].append(f"not at {rung.name}")
        standing = [place for place in standing if place not in settled]
    for place in standing:
        yield Outcome(given.rows[place], False, meter[given.rows[place]], picture=last.get(place),
                      note="; ".join(notes[place]))


def _worth_it(rung: Rung, places: Sequence[int], notes: Mapping[int, list[str]]) -> tuple[list[int], dict[int, str]]:
    """The places where the rung can prove something, and those where the judge failed, with its words."""
    if rung.given_away is None or not places:
        return list(places), {}
    sights = dict(zip(places, rung.given_away(places), strict=True))
    for place, sight in sights.items():
        if sight.found:
            notes[place].append(f"skipped {rung.name}: what is given shows the concept already")
    return ([place for place, sight in sights.items() if not sight.found and not sight.error],
            {place: sight.error for place, sight in sights.items() if sight.error})


def _settled(rung: Rung, place: int, given: References, picture: Tensor, sight: Detection, meter: Meter,
             notes: Sequence[str]) -> Outcome:
    row = given.rows[place]
    if sight.error:
        return Outcome(row, False, meter[row], picture=picture, error=sight.error)
    fixed = ["deterministic: no seed to draw it again with"] if rung.again is None else []
    return Outcome(row, True, meter[row], picture=picture, note="; ".join([f"found at {rung.name}", *notes, *fixed]),
                   tensors=rung.keep(place) if rung.keep else {}, again=rung.again(place) if rung.again else None)
