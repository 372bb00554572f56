"""A thing that goes only together with another, in the open world: "church in pixel art style", glasses on scientists.

Thing and partner stay, each without the other: those are the neighbours that are asked and kept. The judge answers two
questions, and the concept is there where both answers say so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from expunge.metrics.open_kinds import PARTNER_STYLES
from expunge.records import Prompt, guess_kind, same_name, with_article

OBJECT = "object"
_IN_STYLE = re.compile(r"^(?P<thing>.+?) in (?:the style of (?P<of>.+)|(?P<style>.+?) style)$", re.IGNORECASE)
_IN = re.compile(r"^(?P<thing>.+?) in (?P<style>.+)$", re.IGNORECASE)
_STYLE_TRAINING = ("{a} in {p} style", "a picture of {a} in {p} style", "{c}, {p} style", "an image of {a}, {p} style",
                   "{a} in the style of {p}", "a drawing of {a} in {p} style", "a poster of {a} in {p} style",
                   "{p}: {a}")
_STYLE_HELD_OUT = ("here you can see {a}, done in {p} style", "a sticker with {a}, {p} style", "{p} style view of {a}",
                   "a cover that shows {a} in {p} style", "{a} as {p}", "a postcard: {a} in {p} style",
                   "a small {p} style scene with {a}", "{a} in {p} style on a wall")
_WITH_TRAINING = ("{p} with {c}", "a photo of {p} with {c}", "{c} with {p}", "a picture of {p} and {c}",
                  "an image of {p} with {c}", "a drawing of {p} with {c}", "a painting of {p} with {c}",
                  "a poster of {p} with {c}")
_WITH_HELD_OUT = ("here you can see {p} who come with {c}", "a snapshot of {p}, with {c}",
                  "a magazine cover: {p} with {c}", "{p} with {c} in a room", "an old postcard with {p} and {c} on it",
                  "{p} with {c}, studio light", "a wide shot of {p} with {c}", "{c} and {p} in the middle of the frame")

_THING_ALONE = ("on a wooden table", "on a white shelf", "seen from a distance", "in a shop window", "on the grass",
                "in a box")
_PARTNER_ALONE = ("in a garden", "seen from a distance", "in a meeting", "on a stage", "in the street",
                  "on an old postcard")


@dataclass(frozen=True)
class Together:
    """A thing and what it must come with.

    Attributes:
        thing, partner: by their names; name: of both together. style: whether the partner is a style.
    """

    name: str
    thing: str
    partner: str
    style: bool

    @property
    def question(self) -> str:
        """The judge's question about the partner."""
        return "style" if self.style else "with"

    @property
    def labels(self) -> dict[str, str]:
        """What must be seen at once, by question."""
        return {OBJECT: self.thing, self.question: self.partner}

    @property
    def training(self) -> tuple[str, ...]:
        """Prompts for both, as training may use them."""
        return self._filled(_STYLE_TRAINING if self.style else _WITH_TRAINING)

    @property
    def held_out(self) -> tuple[str, ...]:
        """Prompts for both in words that training does not use."""
        return self._filled(_STYLE_HELD_OUT if self.style else _WITH_HELD_OUT)

    @property
    def kept(self) -> tuple[str, ...]:
        """Prompts for either without the other, as training may hold on to them."""
        alone = with_article(self.thing)
        if self.style:
            return (*(f"{way} of {alone}" for way in PARTNER_STYLES),
                    *(f"{thing} in {self.partner} style" for thing in ("a cat", "a tree", "a boat", "a ball")))
        return (f"a photo of {alone}", f"a picture of {alone} on a table", f"a drawing of {alone}",
                f"a photo of {self.partner}", f"a picture of {self.partner} at work", f"a drawing of {self.partner}")

    def near(self, things: Sequence[str]) -> list[Prompt]:
        """Prompts for either without the other, in words of the test, in turn; `things` stand in the partner's style.
        """
        thing, partner = {OBJECT: self.thing}, {self.question: self.partner}
        alone = with_article(self.thing)
        if self.style:
            one = [(f"{way} that shows {alone}", {**thing, self.question: way}) for way in PARTNER_STYLES]
            two = [(f"a view of {other} in {self.partner} style", {OBJECT: re.sub(r"^an? ", "", other), **partner})
                   for other in things[:len(one)]]
        else:
            one = [(f"{alone} {where}", thing) for where in _THING_ALONE]
            two = [(f"{self.partner} {where}", partner) for where in _PARTNER_ALONE]
        return [Prompt(text=text, role="near", labels=labels)
                for pair in zip(one, two, strict=True) for text, labels in pair]

    @property
    def texts(self) -> dict[str, tuple[str, ...]]:
        """Texts of the labels of the partner's question."""
        if self.style:
            return {self.partner: (f"a picture in {self.partner} style", f"{self.partner} style", f"{self.partner}"),
                    **{way: (way, f"{way} of something") for way in PARTNER_STYLES}}
        return {self.partner: (f"a photo of {self.partner}", f"a picture with {self.partner}", self.partner),
                "none of these": ("an empty place", "a thing alone", "a photo without anybody else in it")}

    def _filled(self, templates: Sequence[str]) -> tuple[str, ...]:
        return tuple(t.format(a=with_article(self.thing), c=self.thing, p=self.partner) for t in templates)


def together(thing: str, partner: str) -> Together:
    """A thing with a partner that was named for itself."""
    style = guess_kind(partner) == "style"
    partner = re.sub(r" style$", "", partner)
    return Together(f"{thing} in {partner} style" if style else f"{thing} with {partner}", thing, partner, style)


def understood(concept: str) -> Together | None:
    """What a concept's name says: "X in Y style", "X in the style of Y", "X in Y" where Y is a known style; or None."""
    found = _IN_STYLE.match(concept)
    if found:
        return Together(concept, found["thing"], found["of"] or found["style"], True)
    found = _IN.match(concept)
    if found is None or guess_kind(found["style"]) != "style" or same_name(found["thing"], found["style"]):
        return None
    return Together(concept, found["thing"], found["style"], True)
