"""Images of the concept that attacks aim at, start from or learn from: the user's own, or the original model's."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from torch import Tensor

from expunge.attacks.proposal import Batch
from expunge.attacks.victim import Goal, Item, Victim, fresh_seed
from expunge.errors import UserError

TOGETHER = 4
"""Images drawn together to aim at. A search may make much of a last bit, so their batches are always full."""


def check_pictures(victim: Victim) -> None:
    """Look at the user's own images before anything is computed.

    Raises:
        UserError: none at all, or of another size than the sampler draws.
    """
    if victim.pictures is None:
        return
    _, h, w = victim.model.latent_shape
    factor = victim.model.factor
    size = (victim.sampler.height or h * factor, victim.sampler.width or w * factor)
    if victim.pictures.ndim != 4 or victim.pictures.shape[1] != 3 or not len(victim.pictures):
        raise UserError(f"target images of shape {tuple(victim.pictures.shape)}", accepted="(N, 3, H, W), N >= 1",
                        remedy="give images of the concept, or none to take the original model's")
    if tuple(victim.pictures.shape[2:]) != size:
        raise UserError(f"target images of {tuple(victim.pictures.shape[2:])} pixels", accepted=f"{size}",
                        remedy="resize them, or set the sampler's height and width")


def aimed(batch: Batch, error: str) -> dict[int, Tensor]:
    """`targets` of the items of a batch that still stand, by row; those without one fail with `error`."""
    rows = batch.standing
    found = dict(zip(rows, targets(batch.victim, [batch.items[row] for row in rows], batch.goal), strict=True))
    batch.spend(rows)
    batch.fail([row for row, picture in found.items() if picture is None], error)
    return {row: picture for row, picture in found.items() if picture is not None}


def targets(victim: Victim, items: Sequence[Item], goal: Goal, tries: int = 4) -> list[Tensor | None]:
    """For each item an image (3, H, W) that shows the concept, or None where there is none.

    One of the user's own images, if there are any, chosen by the item alone. Else the original model's: the item's
    own prompt and seed first, then the prompt at fresh seeds, until the judge finds the concept. For a null control
    whatever the original model draws when it is asked. What was drawn for an earlier attack on the same victim is not
    drawn again.
    """
    if victim.pictures is not None:
        return [victim.pictures[_turn(item, len(victim.pictures))] for item in items]
    model = victim.model
    asked = [(model.hash, model.drawing, victim.sampler.digest, goal.judge.name, goal.aim.question, goal.aim.concept,
              str(goal.known), str(tries), prompt.text, str(seed)) for prompt, seed in items]
    new = [row for row, name in enumerate(asked) if name not in victim.aims]
    drawn = _drawn(victim, [items[row] for row in new], goal, tries)
    victim.aims.update(zip((asked[row] for row in new), drawn, strict=True))
    return [victim.aims[name] for name in asked]


def _drawn(victim: Victim, items: Sequence[Item], goal: Goal, tries: int) -> list[Tensor | None]:
    found: list[Tensor | None] = [None] * len(items)
    with victim.without_patch():
        for k in range(tries):
            rows = [row for row, picture in enumerate(found) if picture is None]
            if not rows:
                break
            pictures = victim.draw([items[row][0].text for row in rows], [fresh_seed(items[row][1], k) for row in rows],
                                   TOGETHER, fill=True)
            for row, picture, sight in zip(rows, pictures, goal.see(pictures), strict=True):
                found[row] = picture if sight.found or not goal.known else None
    return found


def _turn(item: Item, count: int) -> int:
    """Which of `count` images is the item's: evenly spread, whatever the batch."""
    digest = hashlib.sha256(f"{item[0].text}/{item[1]}".encode()).digest()
    return int.from_bytes(digest[:7], "big") % count
