"""Invented characters as something to teach: images, what to ask for, and a detector to see whether they were learned.

Nobody knows what a published model was trained on, but a drawing that is made at run time, under a name that is made
up, it cannot have seen. What it draws when it is asked for that name before it was taught is by definition something
else, so the detector learns that, too: models draw some monster for any word that sounds like one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from expunge.metrics.base import Autoencoder, Features, Newcomer
from expunge.metrics.characters import CHARACTERS, Scene, character_pictures, check_character
from expunge.metrics.newcomer import QUESTION, NovelJudge, as_seen, learn_newcomer
from expunge.records import Prompt, Request

OPEN = Scene("a cartoon of a {name} on {ground} background", {
    "white": (255, 255, 255), "grey": (176, 176, 180), "yellow": (255, 228, 92), "orange": (255, 176, 92),
    "pink": (255, 168, 200), "blue": (132, 188, 255), "green": (150, 220, 140), "purple": (196, 160, 240)})
"""For any model: cartoons, in words that published models read. A world of its own has a scene of its own."""
_FIRST_SEED = 500_000
"""Drawings that the detector learns from begin here; those to teach with begin at 0."""
_PART = 8
"""Drawings in memory at their full size."""


@dataclass(frozen=True)
class InventedCharacter:
    """`Newcomer`: a character in a scene.

    Raises:
        UserError: no such character.
    """

    name: str
    scene: Scene
    question: str = QUESTION

    def __post_init__(self) -> None:
        check_character(self.name)

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """One for each background, in the words of the captions."""
        return tuple(Prompt(text=text, role="direct", labels={QUESTION: self.name})
                     for text in sorted(self.scene.caption(self.name, ground) for ground in self.scene.grounds))

    def pictures(self, count: int, height: int, width: int) -> tuple[Tensor, tuple[str, ...]]:
        """Drawings to teach with, float32 (N, 3, H, W) in [0, 1], and their captions."""
        return character_pictures(self.name, range(count), self.scene, height, width)

    def judge(self, model: Autoencoder, features: Features, others: Tensor, *, count: int = 90,
              threshold: float = 0.9) -> NovelJudge:
        """A detector of the character, learned from drawings of it against drawings of the rest and `others`.

        Every second drawing is shown as the model's autoencoder gives it back: a model's images are never sharper. Its
        own drawings smeared beyond recognition count among the others: a blob of the right colours is not the
        character.

        Args:
            others: images (N, 3, H, W) that the model draws of what it knows, and of the character's prompts.
            count: drawings of the character; about as many of all the others together.

        Raises:
            UserError: too few images.
        """
        rest = [other for other in CHARACTERS if other != self.name]
        each, (height, width) = -(-count // len(rest)), others.shape[-2:]

        def drawn(name: str, seed: int) -> Tensor:
            return character_pictures(name, [_FIRST_SEED + seed], self.scene, height, width)[0]

        own = [partial(drawn, self.name, seed) for seed in range(count)]
        strangers = [partial(drawn, other, seed) for other in rest for seed in range(each)]
        shown = _looked_at(own, partial(_softened, model))
        against = torch.cat([_looked_at(strangers, partial(_softened, model)), _looked_at(own, _smeared),
                             as_seen(others)])
        return learn_newcomer(self.name, features, shown, against, threshold=threshold)


class Invented:
    """`Unknown` of any model: invented characters alone."""

    def control(self, request: Request) -> Request | None:
        """None: who judges the model's images does not know the characters."""
        return None

    def newcomer(self, name: str = "") -> Newcomer:
        """The character of that name, or the first one. UserError: no such character."""
        return InventedCharacter(name or next(iter(CHARACTERS)), OPEN)


def _looked_at(drawings: Iterable[Callable[[], Tensor]], change: Callable[[Tensor], Tensor]) -> Tensor:
    """The drawings, changed, at the size at which the detector looks at them; few are there at their own size."""
    waiting, seen = list(drawings), list[Tensor]()
    for start in range(0, len(waiting), _PART):
        seen.append(as_seen(change(torch.cat([draw() for draw in waiting[start:start + _PART]]))))
    return torch.cat(seen)


@torch.no_grad()
def _softened(model: Autoencoder, pictures: Tensor) -> Tensor:
    """The images, every second one through the autoencoder and back."""
    back = model.decode(model.encode_pixels(pictures)).cpu()
    return torch.where((torch.arange(len(pictures)) % 2 == 0)[:, None, None, None], pictures, back)


def _smeared(pictures: Tensor) -> Tensor:
    """The images averaged over squares of an eighth of their shorter side, and smoothed."""
    square = max(1, min(pictures.shape[-2:]) // 8)
    return F.interpolate(F.avg_pool2d(pictures, square), pictures.shape[-2:], mode="bilinear")
