"""A judge that is real and simple enough to steer: a picture is a church if it is bright. And what it is shown."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from expunge.attacks.base import Goal, Item
from expunge.metrics.base import Answer
from expunge.models.scope import full_names
from expunge.models.sd import StableDiffusion
from expunge.records import Prompt, Request, Sampler

REQUEST = Request(concept="church", prompts=("a church", "a church on a hill"), keep=("a house", "a dog", "a castle"))
ITEMS: list[Item] = [(Prompt(text=text, role="direct"), seed) for seed in (0, 1)
                     for text in ("a church", "an emoji of a church")]
SAMPLER = Sampler(steps=3, guidance=1.0)


class Brightness:
    """Calls a picture a church if its mean is above `limit`; keeps what it saw."""

    name = "brightness"
    questions: Mapping[str, tuple[str, ...]] = {"object": ("church", "something else")}

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.seen: list[Tensor] = []

    def __call__(self, pictures: Tensor) -> list[Answer]:
        self.seen.append(pictures)
        return [Answer({"object": "church" if float(mean) > self.limit else "something else"}, {})
                for mean in pictures.mean((1, 2, 3))]


def church_above(limit: float, known: bool = True) -> Goal:
    return Goal(Brightness(limit), "object", "church", known)


def weights(model: StableDiffusion) -> dict[str, Tensor]:
    """Copies of all weights that an attack might touch."""
    named = full_names("unet", model.unet) | full_names("text_encoder", model.text_encoder)
    return {name: p.detach().clone() for name, p in named.items()}
