"""Prompts to keep, made from a vocabulary of things and filtered for the concepts that are to go.

A prompt that asks for the concept under another name works against the edit, so two filters stand before training: by
words (the concept and its other names, as `records.names` reads them; a longer name that holds one is another thing),
and by the model's own text encoder. With e(w) its state at the end token of w, and m the mean of e over all the things
and concepts,

    closeness(w, c) = cos(e(w) - m, e(c) - m):

the mean is taken out because states of a text encoder share a large common part. What was left out, and why, goes into
the patch's card.

Source: AdvUnlearn's retain lists (prompts "a photo of <object>", filtered once, for nudity, by a language model).
Differs: made and filtered anew for every request, by closeness.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any
from weakref import WeakKeyDictionary

import torch
from pydantic import BeforeValidator
from torch import Tensor

from expunge import untrusted
from expunge.config import Settings, knob
from expunge.errors import UserError
from expunge.models.model import Model
from expunge.records import Request, Target, names, names_any, same_name
from expunge.registry import WORLDS
from expunge.unlearn.context import spread
from expunge.unlearn.kinds import kin_of

_CLOSEST = 6
"""Things that count as near in a world without kinds."""


@dataclass(frozen=True)
class Retained:
    """A request with prompts to keep in it.

    Attributes:
        request: the request; its `keep` begins with the user's own prompts, and each target's with the request's own.
        prompts: those that were made.
        left_out: things of the vocabulary that are not kept, and prompts with two things that do not fit, with the
            reason.
    """

    request: Request
    prompts: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)

    def within(self, places: int) -> Retained:
        """With at most `places` prompts: the user's own all, evenly spaced ones of those that were made."""
        made = {*self.prompts}
        own = tuple(prompt for prompt in self.request.keep if prompt not in made)
        room = places - len(own)
        if len(self.prompts) <= room:
            return self
        chosen = spread(self.prompts, room)
        return replace(self, request=self.request.model_copy(update={"keep": own + chosen}), prompts=chosen)


def _listed(value: Any) -> Any:
    """The lines of the file that a text names; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        lines = untrusted.text(Path(value).expanduser()).splitlines()
    except OSError as error:
        raise ValueError(f"no text file with one thing a line: {error}") from error
    return tuple(line.strip() for line in lines if line.strip())


class Retain(Settings):
    """Prompts made from a vocabulary, beside those that the request has."""

    things: Annotated[tuple[str, ...], BeforeValidator(_listed)] = knob(
        (), "Things to keep, or a text file with one a line; none means all that the model's world names",
        source="AdvUnlearn dataset_retain")
    each: int = knob(4, "Prompts for each thing, of those that its world has", ge=1, source="AdvUnlearn: 1")
    near: int = knob(0, "Further prompts for each thing of a concept's kind (in a world without kinds: for each of the "
                        "six closest)", ge=0)
    pairs: int = knob(0, "Prompts that show two kept things at once, one of the concept's kind and one of another",
                      ge=0)
    beside: int = knob(0, "Prompts that ask for a concept and a kept thing beside it, for each concept: trained on "
                          "with its others, so that the other thing stays", ge=0)
    names: tuple[str, ...] = knob((), "Other names of the concepts; what has one of them in it is not kept")
    similar: float = knob(0.8, "Closeness to a concept, in the text encoder, from which on a thing is not kept", gt=0.0,
                          le=1.0)

    def retained(self, model: Model, request: Request, gone: Sequence[str] = ()) -> Retained:
        """The request with the prompts in it; none for what is `gone` already, by name.

        Raises:
            UserError: a thing that the world does not know, or nothing is left to keep.
        """
        asks = WORLDS.get(model.world)().prompts
        vocabulary: Mapping[str, Sequence[str]] = asks.vocabulary(self.things)
        single = [target.concept for target in request.targets if not target.joint]  # parts of a joint one stay
        wanted, reader = [*single, *gone, *self.names], model.texts[0].reader
        close = closest(model, [*vocabulary], wanted) if wanted else [("", -1.0)] * len(vocabulary)

        def named(text: str) -> bool:
            return names_any(text, request, reader) or any(names(text, name, reader) for name in (*gone, *self.names))

        kept: dict[str, list[str]] = {}
        left_out: dict[str, str] = {}
        for thing, (concept, closeness) in zip(vocabulary, close, strict=True):
            clean = [prompt for prompt in vocabulary[thing] if not named(prompt)]
            if not self.things and any(same_name(thing, concept, reader) for concept in wanted):
                continue  # it goes, and nobody asked for it to be kept
            if named(thing) or not clean:
                left_out[thing] = "names a concept that is to go"
            elif closeness >= self.similar:
                left_out[thing] = f"close to {concept} in the text encoder ({closeness:.2f})"
            else:
                kept[thing] = clean
        if not kept:
            raise UserError(f"nothing is left to keep of {len(vocabulary)} things beside {request.concept!r}",
                            accepted="a vocabulary with other things in it",
                            remedy="name more in retain.things, or raise retain.similar")
        kin = {thing for target in request.targets for thing in kin_of(asks, target.concept)}
        ranked = sorted(kept, key=dict(zip(vocabulary, (-value for _, value in close), strict=True)).__getitem__)
        near = [thing for thing in ranked if thing in kin] or ranked[:_CLOSEST]
        prompts = [text for thing, clean in kept.items()
                   for text in spread(clean, min(self.each + (self.near if thing in near else 0), len(clean)))]
        prompts = _fitting(model, [*prompts, *self._paired(kept, near)], left_out)
        made = tuple(prompt for prompt in dict.fromkeys(prompts) if prompt not in request.keep)
        rest = [thing for thing in kept if thing not in near]
        first, *also = (target.model_copy(update={"prompts": (*target.prompts, *_fitting(
            model, self._beside(target, rest), left_out))}) for target in request.targets)
        return Retained(request.model_copy(update={"prompts": first.prompts, "also": tuple(also),
                                                   "keep": (*request.keep, *made)}), made, left_out)

    def _beside(self, target: Target, rest: Sequence[str]) -> tuple[str, ...]:
        """The shortest of the target's prompts with another thing beside it; none that it has."""
        others = spread(rest, self.beside) if rest else ()
        short = sorted(target.prompts, key=len)
        joined = [_joined(short[i % len(short)], other) for i, other in enumerate(others)]
        return tuple(text for text in dict.fromkeys(joined) if text not in target.prompts)

    def _paired(self, kept: Mapping[str, Sequence[str]], near: Sequence[str]) -> list[str]:
        """Prompts with two things in them: the near ones in turn, each with another of the rest."""
        rest = [thing for thing in kept if thing not in near]
        if not rest or not near:
            return []
        others = spread(rest, self.pairs)
        return [_joined(min(kept[near[i % len(near)]], key=len), other) for i, other in enumerate(others)]


@torch.no_grad()
def closest(model: Model, things: Sequence[str], concepts: Sequence[str]) -> list[tuple[str, float]]:
    """For each thing the concept that it is closest to, and how close it is, from -1 to 1."""
    e = _ends(model, [*things, *concepts])  # (N + C, D)
    e = torch.nn.functional.normalize(e - e.mean(0), dim=1)
    value, place = (e[:len(things)] @ e[len(things):].T).max(1)
    return [(concepts[int(i)], float(v)) for i, v in zip(place, value, strict=True)]


def _ends(model: Model, texts: Sequence[str], batch: int = 64) -> Tensor:
    """Text states (N, D) at the end token."""
    known = _known_ends(model)
    new = [text for text in dict.fromkeys(texts) if text not in known]
    for first in range(0, len(new), batch):
        part = new[first:first + batch]
        known.update(zip(part, model.end_states(part), strict=True))
    return torch.stack([known[text] for text in texts])


_ENDS: WeakKeyDictionary[Model, tuple[Any, dict[str, Tensor]]] = WeakKeyDictionary()
"""Of each model its weights' state and what its text encoder made of texts: plans ask for the same ones many times."""


def _known_ends(model: Model) -> dict[str, Tensor]:
    """Text states by text, of the model as it is now: a weight that changed since has torch's count of it changed."""
    now = (model.patch_hash, sum(p._version for p in model.parameters_in("all").values()))
    before, known = _ENDS.get(model, (None, {}))
    if before != now:
        known = {}
        _ENDS[model] = (now, known)
    return known


def _fitting(model: Model, texts: Sequence[str], left_out: dict[str, str]) -> list[str]:
    """Those that the text encoder reads to their end; the others are `left_out`."""
    long = model.too_long(texts)
    left_out.update(dict.fromkeys(long, "longer than the text encoder reads"))
    return [text for text in texts if text not in long]


def _joined(prompt: str, thing: str) -> str:
    """`prompt` with another thing in it."""
    return f"{prompt} and {'an' if thing[0].lower() in 'aeiou' else 'a'} {thing}"
