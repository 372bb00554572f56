"""A judge that is real and simple enough to steer, how bright an image is; what it is shown, and whom it judges."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from expunge.attacks.victim import Goal, Item
from expunge.metrics.base import Aim
from expunge.models.model import Model
from expunge.records import Detection, Prompt, Request, Sampler

REQUEST = Request(concept="church", prompts=("a church", "a church on a hill"), keep=("a house", "a dog", "a castle"))
ITEMS: list[Item] = [(Prompt(text=text, role="direct"), seed) for seed in (0, 1)
                     for text in ("a church", "an emoji of a church")]
SAMPLER = Sampler(steps=3, guidance=1.0)


class Brightness:
    """Calls an image bright, and a church, if the mean of its pixels is above a threshold; fails on images of one
    colour; keeps what it saw."""

    questions: Mapping[str, tuple[str, ...]] = {"light": ("bright", "dark"), "object": ("church", "something else")}

    def __init__(self, threshold: float) -> None:
        self.threshold, self.name = threshold, f"brightness@{threshold}"
        self.seen: list[Tensor] = []

    def __call__(self, pictures: Tensor) -> list[Detection]:
        self.seen.append(pictures)
        return [self._answer(picture) for picture in pictures]

    def _answer(self, picture: Tensor) -> Detection:
        if bool((picture == picture[:, :1, :1]).all()):
            return Detection(error="an image of one colour")
        side = int(float(picture.mean()) <= self.threshold)
        return Detection(answers={question: labels[side] for question, labels in self.questions.items()},
                         confidence=dict.fromkeys(self.questions, 1.0))


def church_above(limit: float, known: bool = True) -> Goal:
    """What is bright is a church."""
    return Goal(Brightness(limit), Aim("church", "object"), known)


def weights(model: Model) -> dict[str, Tensor]:
    """Copies of all weights that an attack might touch."""
    named = model.editable()
    return {name: p.detach().clone() for name, p in named.items()}
