"""Which thing takes a concept's place where nobody names one: the closest of its kind to the text encoder.

Candidates are the things of the world's vocabulary; where the world knows kinds, those of the concept's own kind, if
there are any. Of them the one counts that the model's text encoder holds for the closest (`retain.closest`). A world
without kinds offers whatever it has, so there the closest one is taken only if it is close at all, and not so close
that it is another name of the concept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from expunge.models.model import Model
from expunge.records import mentions
from expunge.registry import WORLDS
from expunge.unlearn.kinds import kin_of
from expunge.unlearn.retain import closest

LEAST, MOST = 0.25, 0.8
"""Closeness from which on, and up to which, a thing of a world without kinds fits."""


@dataclass(frozen=True)
class Surrogate:
    """What was found for a concept.

    Attributes:
        concept: the concept; anchor: what takes its place, "" if nothing fits.
        closeness: of the closest candidate to the concept, in the text encoder, from -1 to 1.
    """

    concept: str
    anchor: str
    closeness: float

    @property
    def words(self) -> str:
        """For a person."""
        if not self.anchor:
            return f"nothing in particular takes the place of {self.concept}: nothing that fits is known"
        return (f"{self.anchor} takes the place of {self.concept} (closest to the text encoder, {self.closeness:.2f}; "
                "name another anchor, or '' for none)")


def surrogates(model: Model, concepts: Sequence[str]) -> tuple[Surrogate, ...]:
    """One for each of the concepts, which all go in one edit; none names a concept that goes."""
    asks = WORLDS.get(model.world)().prompts
    vocabulary: Mapping[str, Sequence[str]] = asks.vocabulary()
    return tuple(_found(model, asks, concept, concepts, vocabulary) for concept in concepts)


def _found(model: Model, asks: object, concept: str, gone: Sequence[str], vocabulary: Mapping[str, Sequence[str]]
           ) -> Surrogate:
    kin = kin_of(asks, concept)
    free = [thing for thing in kin or vocabulary if not any(mentions(thing, name) or mentions(name, thing)
                                                           for name in gone)]
    if not free:
        return Surrogate(concept, "", 0.0)
    things = list(dict.fromkeys((*vocabulary, *free)))  # closeness is relative to the mean of all
    close = dict(zip(things, (value for _, value in closest(model, things, [concept])), strict=True))
    best = max(free, key=lambda thing: close[thing])
    fits = bool(kin) or LEAST <= close[best] < MOST
    return Surrogate(concept, best if fits else "", close[best])
