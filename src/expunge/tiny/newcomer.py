"""Invented characters as something to teach: what to ask for them, and a detector to see whether they were learned."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from expunge.metrics.base import Autoencoder, Features, NovelConcept
from expunge.metrics.newcomer import QUESTION, NovelJudge, learn_newcomer
from expunge.records import Prompt
from expunge.tiny.characters import CHARACTERS, character_pictures

_FIRST_SEED = 500_000
"""Drawings that the detector learns from begin here; those to teach with begin at 0."""


def character_prompts(name: str) -> list[Prompt]:
    """One prompt per background, in the words of the drawings' captions. UserError: no such character."""
    _, captions = character_pictures(name, range(64))
    return [Prompt(text=text, role="direct", labels={QUESTION: name}) for text in sorted(set(captions))]


def character_judge(name: str, model: Autoencoder, features: Features, others: Tensor, *, count: int = 90,
                    threshold: float = 0.9) -> NovelJudge:
    """A detector of one character, learned from drawings of it against drawings of the rest and `others`.

    Every second drawing is shown as the model's autoencoder gives it back: a model's images are never sharper. Its
    own drawings smeared beyond recognition count among the others: a blob of the right colours is not the character.

    Args:
        features: the extractor that it stands on, for example `world.features()`.
        others: images (N, 3, 64, 64) that the model draws of what it knows.
        count: drawings of the character; about as many of all the others together.

    Raises:
        UserError: no such character, or too few images.
    """
    rest = [other for other in CHARACTERS if other != name]
    each = -(-count // len(rest))
    shown = _drawn(name, count)
    strangers = torch.cat([_drawn(other, each) for other in rest])
    against = torch.cat([_softened(model, strangers), _smeared(shown), others])
    return learn_newcomer(name, features, _softened(model, shown), against, threshold=threshold)


def character(name: str, model: Autoencoder, features: Features, known: Tensor, count: int) -> NovelConcept:
    """The character as something to teach with `count` drawings; see `character_judge` for the rest."""
    pictures, captions = character_pictures(name, range(count))
    judge = character_judge(name, model, features, known)
    return NovelConcept(name, QUESTION, pictures, tuple(captions), tuple(character_prompts(name)), judge, judge.score)


def _drawn(name: str, count: int) -> Tensor:
    return character_pictures(name, range(_FIRST_SEED, _FIRST_SEED + count))[0]


@torch.no_grad()
def _softened(model: Autoencoder, pictures: Tensor) -> Tensor:
    """The images, every second one through the autoencoder and back."""
    back = torch.cat([model.decode(model.encode_pixels(part)).cpu() for part in pictures.split(16)])
    return torch.where((torch.arange(len(pictures)) % 2 == 0)[:, None, None, None], pictures, back)


def _smeared(pictures: Tensor) -> Tensor:
    """The images averaged over squares of 8 x 8 pixels, and smoothed."""
    return F.interpolate(F.avg_pool2d(pictures, 8), pictures.shape[-2:], mode="bilinear", align_corners=False)
