"""What a closed form reads: the text states of concepts, of what takes their place, and of what must stay.

Cross-attention sees a prompt only as keys W_k c and values W_v c of its text states c, so an edit of these
projections is a statement about text states: "what c was told as, tell as g". This file says which c and which g.

A causal text encoder reads a name up to its last token, and everything after that token has seen the name too. The
original UCE therefore maps a span, from the name's last token to the end of the sequence; later scripts map the last
token alone. Both are choices of `Tokens` here. An encoder that reads both ways (T5) has told the tokens before the name
of it too: there a span holds them as well.

A model of several encoders has their states side by side along D, or one behind the other along T. Each part along T is
read by the tokens of its own encoder (`Denoiser.places`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import torch
from torch import Tensor

from expunge.errors import UserError
from expunge.models.model import Model
from expunge.records import Request, Target
from expunge.train import Progress
from expunge.unlearn.anchor import anchored

Texts = Literal["names", "prompts", "both"]
"""names: the concept's name alone; prompts: the request's prompts; both."""
Tokens = Literal["span", "last", "words", "all"]
"""Positions of a concept's text. span: from the name's last token to the end of the sequence; last: that token alone;
words: the name and what follows it, end token included; all: every position but the first."""
KeepTokens = Literal["all", "words", "last"]
"""Positions of a text to keep. all; words: from the start token to the end token; last: the last word's."""


@dataclass(frozen=True)
class Pairs:
    """Text states of concepts, each with the one whose keys and values it is to have.

    Attributes:
        c: float64 (N, D), states of the concepts; g: (N, D), of what takes their place.
        a: (N,) weights: 1 over the number of its concept's texts, so that concepts count alike.
    """

    c: Tensor
    g: Tensor
    a: Tensor

    def and_also(self, others: Pairs) -> Pairs:
        """These and `others`."""
        return Pairs(torch.cat([self.c, others.c]), torch.cat([self.g, others.g]), torch.cat([self.a, others.a]))


@dataclass(frozen=True)
class Reading:
    """All states that an edit is made from.

    Attributes:
        pairs: what is to change.
        keep: float32 (M, D), states of the request's prompts to keep; empty: (T, D), of the empty prompt;
            retained: (P, D), of prompts for other things.
        texts: number of texts that must stay, the empty one included.
    """

    pairs: Pairs
    keep: Tensor
    empty: Tensor
    retained: Tensor
    texts: int


@dataclass(frozen=True)
class _Read:
    """One text as one encoder reads it.

    Attributes:
        states: (T, D). ids: T of them. begin: place of the first token behind the start. end: that of the end token.
        causal: whether no state depends on later tokens.
    """

    states: Tensor
    ids: tuple[int, ...]
    begin: int
    end: int
    causal: bool


@dataclass(frozen=True)
class Plan:
    """Which texts are read, and how; made without the encoder.

    Attributes:
        pairs: target, text that asks for it and text that takes its place.
        keep, retained: texts that must stay, beside the empty one: the request's, and those made up.
    """

    pairs: tuple[tuple[Target, str, str], ...]
    keep: tuple[str, ...]
    retained: tuple[str, ...]

    @classmethod
    def of(cls, request: Request, texts: Texts, retained: Sequence[str]) -> Plan:
        """The request's texts.

        Raises:
            UserError: a concept that is its own anchor.
        """
        pairs: dict[tuple[str, str], tuple[Target, str, str]] = {}
        for target in request.targets:
            if target.anchor.strip().casefold() == target.concept.strip().casefold():
                raise UserError(f"{target.concept!r} is its own anchor", accepted="another thing, or no anchor")
            named = [] if texts == "prompts" else [(target.concept, anchored(target.concept, target))]
            asked = [] if texts == "names" else [(prompt, anchored(prompt, target)) for prompt in target.prompts]
            for text, instead in (*named, *asked):
                pairs.setdefault((target.concept, text), (target, text, instead))
        keep = tuple(dict.fromkeys(text for text in request.keep if text.strip()))
        return cls(tuple(pairs.values()), keep, tuple(text for text in dict.fromkeys(retained) if text not in keep))

    @property
    def uses(self) -> dict[str, tuple[str, ...]]:
        """Every text by its use: those that ask for a concept, that take their place, and that must stay."""
        return {"erase": tuple(dict.fromkeys(text for _, text, _ in self.pairs)),
                "instead": tuple(dict.fromkeys(instead for _, _, instead in self.pairs if instead)),
                "keep": (*self.keep, *self.retained)}

    @property
    def texts(self) -> tuple[str, ...]:
        """Every text that is encoded, once."""
        of_pairs = (text for target, *both in self.pairs for text in (target.word, target.anchor, *both))
        return tuple(dict.fromkeys(("", *of_pairs, *self.keep, *self.retained)))


@torch.no_grad()
def read(model: Model, plan: Plan, tokens: Tokens, keep_tokens: KeepTokens, retain_tokens: KeepTokens,
         batch: int = 32, progress: Progress | None = None) -> Reading:
    """Encode the plan's texts and take the states at the positions asked for.

    Raises:
        UserError: a text that is cut off, a concept without a token, or one that is read as its anchor is.
    """
    parts = _encoded(model, plan.texts, batch, progress)
    counts: dict[str, int] = {}
    for target, _, _ in plan.pairs:
        counts[target.concept] = counts.get(target.concept, 0) + 1
    c, g, a = [], [], []
    for (target, text, instead), known in product(plan.pairs, parts):
        here, there = known[text], known[instead]
        if here.end <= here.begin:
            raise UserError(f"{text!r} has no token, so nothing of {target.concept!r} can be changed by it",
                            accepted="a text with words")
        places = _places(here, there, known[target.word], known[target.anchor], tokens)
        c.append(here.states[[i for i, _ in places]])
        g.append(there.states[[j for _, j in places]])
        a.append(torch.full((len(places),), 1.0 / counts[target.concept]))
        if torch.equal(c[-1], g[-1]):
            raise UserError(f"the text encoder reads {text!r} and {instead!r} alike",
                            accepted="an anchor that differs from the concept")
    pairs = Pairs(torch.cat(c).double(), torch.cat(g).double(), torch.cat(a).double().to(c[0].device))
    empty = torch.cat([known[""].states for known in parts])
    keep, retained = ([known[text] for text, known in product(texts, parts)] for texts in (plan.keep, plan.retained))
    return Reading(pairs, _kept(keep, keep_tokens, empty), empty, _kept(retained, retain_tokens, empty),
                   1 + len(plan.keep) + len(plan.retained))


def computable(values: Tensor) -> Tensor:
    """The values, without gradient, where float64 can be computed: on the CPU if their device (Apple's) cannot."""
    return values.detach().cpu() if values.device.type == "mps" else values.detach()


def _encoded(model: Model, texts: Sequence[str], batch: int, progress: Progress | None) -> list[dict[str, _Read]]:
    """Each text read, once for every part of the text states along T."""
    # Of encoders side by side the first one's tokens say where a name stands: they share a vocabulary.
    firsts = {place: model.texts[number] for number, place in reversed([*model.denoiser.places.items()])}
    known: dict[int, dict[str, _Read]] = {place: {} for place in sorted(firsts)}
    for first in range(0, len(texts), batch):
        some = texts[first:first + batch]
        states = computable(model.encode(some).states)
        for place, mine in known.items():
            encoder = firsts[place]
            laid = encoder.laid_out(some)
            rows = zip(some, states[:, place:place + encoder.length], laid.ids.tolist(), encoder.ends(laid).tolist(),
                       strict=True)
            mine |= {text: _Read(state, tuple(ids), len(encoder.start), end, encoder.causal)
                     for text, state, ids, end in rows}
        if progress is not None:
            progress(first + len(some), len(texts), {})
    return [*known.values()]


def _places(here: _Read, there: _Read, concept: _Read, anchor: _Read, tokens: Tokens) -> list[tuple[int, int]]:
    """Positions in the concept's text, each with the position in the other text that takes its place."""
    length = len(here.ids)
    if tokens == "all":
        return [(i, i) for i in range(here.begin, length)]
    first, last = _name(here, concept)
    begins, instead = _name(there, anchor)
    if tokens == "last":
        return [(last, instead)]
    if tokens == "span":
        seen = [] if here.causal else [(i, i) for i in range(here.begin, min(first, begins))]
        return [*seen, *((last + i, instead + i) for i in range(length - max(last, instead)))]
    after = min(here.end - last, there.end - instead)
    return [*((i, instead) for i in range(first, last)), *((last + i, instead + i) for i in range(after + 1))]


def _name(text: _Read, name: _Read) -> tuple[int, int]:
    """First and last position of the name in the text; of all its words if it does not hold the name.

    Of the empty text, the start token's, all that a causal encoder has read before the end; or the end's, if none is.
    """
    wanted = name.ids[name.begin:name.end]
    for first in range(text.begin, text.end - len(wanted) + 1):
        if wanted and text.ids[first:first + len(wanted)] == wanted:
            return first, first + len(wanted) - 1
    last = max(0, text.end - 1)
    return min(text.begin, last), last


def _kept(texts: Sequence[_Read], tokens: KeepTokens, like: Tensor) -> Tensor:
    """States of texts that must stay: float32 (M, D)."""
    rows = [text.states if tokens == "all" else text.states[:text.end + 1] if tokens == "words"
            else text.states[max(0, text.end - 1):max(1, text.end)] for text in texts]
    return torch.cat(rows) if rows else like[:0]
