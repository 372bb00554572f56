"""What attacks that start from a picture of the concept share: its latents, what the model is told, a ladder of tries.

The picture is the user's own or the original model's (`base.targets`). A ladder is a list of rungs, strongest evidence
first; every item climbs down until the judge sees the concept, so an item's record names the strongest rung that held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from expunge.attacks.base import Again, Goal, Item, Meter, Outcome, Sight, Victim, targets
from expunge.errors import UserError
from expunge.models.base import Conditioning
from expunge.models.sd import StableDiffusion

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
    given_away: Callable[[Sequence[int]], list[Sight]] | None = None


def check_pictures(victim: Victim) -> None:
    """Look at the user's own pictures before anything is computed.

    Raises:
        UserError: none at all, or of another size than the sampler draws.
    """
    if victim.pictures is None:
        return
    _, h, w = victim.model.latent_shape
    factor = victim.model.factor
    size = (victim.sampler.height or h * factor, victim.sampler.width or w * factor)
    if victim.pictures.ndim != 4 or victim.pictures.shape[1] != 3 or not len(victim.pictures):
        raise UserError(f"target pictures of shape {tuple(victim.pictures.shape)}", accepted="(N, 3, H, W), N >= 1",
                        remedy="give pictures of the concept, or none to take the original model's")
    if tuple(victim.pictures.shape[2:]) != size:
        raise UserError(f"target pictures of {tuple(victim.pictures.shape[2:])} pixels", accepted=f"{size}",
                        remedy="resize them, or set the sampler's height and width")


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
def latents_of(model: StableDiffusion, pictures: Tensor, batch: int = 32) -> Tensor:
    """Latents float32 (B, c, h, w) of pictures (B, 3, H, W) in [0, 1]."""
    return torch.cat([model.encode_pixels(part) for part in pictures.split(batch)])


@torch.no_grad()
def states_of(model: StableDiffusion, texts: Sequence[str]) -> Conditioning:
    """The texts' states, each distinct text encoded in a batch of its own, as `sample.draw` does."""
    each = {text: model.encode([text]) for text in dict.fromkeys(texts)}
    return Conditioning(torch.cat([each[text].states for text in texts]), torch.cat([each[text].ids for text in texts]))


def guidance_of(victim: Victim, words: Words) -> float:
    """The sampler's guidance for the item's own prompt; 1 for the empty one, which has nothing to be guided from."""
    return 1.0 if words == "empty" else victim.sampler.guidance


def finish(victim: Victim, x: Tensor, texts: Sequence[str], words: Words, start: int, stop: int | None = None
           ) -> Tensor:
    """Latents denoised from grid point `start` to `stop` (None: to the clean end), x and result (B, c, h, w)."""
    model, sampler, guidance = victim.model, victim.sampler, guidance_of(victim, words)
    cond = states_of(model, ["" if words == "empty" else text for text in texts])
    uncond = None if guidance == 1 else states_of(model, [sampler.negative])
    return model.denoise(x, cond, uncond, sampler.steps, guidance, start=start, stop=stop)


@torch.no_grad()
def seen_as(model: StableDiffusion, latents: Tensor) -> Tensor:
    """Pictures of latents, float32 (B, 3, H, W) on the CPU."""
    return model.decode(latents).cpu()


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


def _settled(rung: Rung, place: int, given: References, picture: Tensor, sight: Sight, meter: Meter,
             notes: Sequence[str]) -> Outcome:
    row = given.rows[place]
    if sight.error:
        return Outcome(row, False, meter[row], picture=picture, error=sight.error)
    told = [f"found at {rung.name}", *notes, *(["deterministic: no seed to draw it again with"] if rung.again is None
                                               else [])]
    return Outcome(row, True, meter[row], picture=picture, note="; ".join(told),
                   tensors=rung.keep(place) if rung.keep else {}, again=rung.again(place) if rung.again else None)
