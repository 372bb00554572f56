"""A request in words, before a world completes it: which concepts, which anchors, and whether they agree.

Contradictions are found from the words alone, by what an encoder reads in them (see `naming`), so that they are told
before a model is opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from expunge.errors import UserError
from expunge.records.kinds import SPREADS, guess_kind
from expunge.records.naming import Reader, longer_name, mentions, names, read, same_name
from expunge.records.request import Request, Target

Named = tuple[tuple[str, str], ...]
"""(concept, anchor) of each target; "" where it has no anchor."""


def asked(concept: str | Sequence[str], anchor: str | Sequence[str] = "", keep: Sequence[str] = (), *,
          reader: Reader = read, kinds: Sequence[str] = ()) -> Named:
    """Each concept with its anchor, without blanks around them.

    Args:
        concept: a name, or several.
        anchor: what takes its place; with several concepts one for each, in their order, or none at all.
        keep: what must stay. A longer name that holds a concept's ("nurse shark") is another thing and may stay.
        reader: what the model's text encoder reads; by default what CLIP's does.
        kinds: of each concept; guessed from its name where none is given.

    Raises:
        UserError: no concept, an empty name, another number of anchors, or a contradiction (see `check_request`).
    """
    goes = [name.strip() for name in texts_of(concept, "concept", "a name, or a list of names")]
    anchors = [name.strip() for name in texts_of(anchor, "anchor", "a name, or a list with one for each concept")]
    if isinstance(keep, str):
        raise UserError(f"keep is the single text {keep!r}", accepted="a list of texts")
    texts_of(keep, "keep", "a list of texts")
    if not all(goes) or not goes:
        raise UserError("an empty concept", accepted="a name, for example 'church'")
    if anchors in ([], [""]):
        anchors = [""] * len(goes)
    if len(anchors) != len(goes):
        count = f"{len(anchors)} anchor{'' if len(anchors) == 1 else 's'} for {len(goes)} concept"
        raise UserError(f"{count}{'' if len(goes) == 1 else 's'}",
                        accepted="one anchor for each concept, in their order ('' for nothing in particular), or none")
    named = tuple(zip(goes, anchors, strict=True))
    _check_names(named, reader)
    _check_kept([(name, kind or guess_kind(name), ()) for name, kind in
                 zip(goes, kinds or [""] * len(goes), strict=True)], keep, reader)
    return named


def texts_of(given: Any, what: str, accepted: str) -> list[str]:
    """A text, or several in their order.

    Raises:
        UserError: it is neither. A set has no order, and bytes are no text.
    """
    if isinstance(given, str):
        return [given]
    if not isinstance(given, Sequence) or isinstance(given, bytes | bytearray):
        raise UserError(f"{what} is {given!r}", accepted=accepted)
    odd = [one for one in given if not isinstance(one, str)]
    if odd:
        raise UserError(f"{what} holds {odd[0]!r}", accepted=accepted)
    return list(given)


def check_request(request: Request, reader: Reader = read) -> None:
    """Whether a whole request can be granted.

    Raises:
        UserError: an empty name or prompt, the same concept twice, a concept that is its own anchor, an anchor or a
            thing to keep that names a concept.
    """
    asked(request.concepts, [target.anchor for target in request.targets], reader=reader)
    _check_kept([(target.concept, target.kind, tuple(target.joint.values())) for target in request.targets],
                request.keep, reader)
    for target in request.targets:
        blank = sum(not prompt.strip() for prompt in target.prompts)
        if blank:
            raise UserError(f"{blank} empty prompts that ask for {target.concept!r}", accepted="prompts with words")


def names_target(text: str, target: Target, reader: Reader = read) -> bool:
    """Whether a text names what is to go: its name by itself, or all of what only goes together."""
    return _names(text, target.concept, target.kind, tuple(target.joint.values()), reader)


def names_any(text: str, request: Request, reader: Reader = read) -> bool:
    """Whether a text names any concept of the request."""
    return any(names_target(text, target, reader) for target in request.targets)


def remarks(request: Request, reader: Reader = read) -> list[str]:
    """In sentences what was understood and what is told apart: for the screen."""
    out = []
    for target in request.targets:
        if target.joint:
            parts = " and ".join(repr(part) for part in target.joint.values())
            out.append(f"{target.concept!r} is understood as {parts} together: each stays without the other")
        elif target.kind != "object":
            out.append(f"{target.concept!r} is taken for {_KIND_WORDS[target.kind]} (--kind says otherwise)")
        if target.own:
            out.append(f"{len(target.prompts)} prompts of your own ask for {target.concept!r} in training, no others")
        for text in request.keep:
            longer = longer_name(text, target.concept, reader)
            if longer and not target.joint:
                out.append(f"{text!r} stays: {longer!r} is taken for another thing than {target.concept!r}")
    return out


_KIND_WORDS = {"style": "a style", "person": "a person", "explicit": "explicit content", "action": "an action"}


def _names(text: str, concept: str, kind: str, joint: tuple[str, ...], reader: Reader) -> bool:
    if joint and all(mentions(text, part, reader) for part in joint):
        return True
    return names(text, concept, reader, always=kind in SPREADS)


def _check_names(named: Named, reader: Reader) -> None:
    concepts = [concept for concept, _ in named]
    for place, concept in enumerate(concepts):
        earlier = next((other for other in concepts[:place] if same_name(other, concept, reader)), None)
        if earlier is not None:
            raise UserError(f"{concept!r} is to be unlearned twice{_alike(concept, earlier)}",
                            accepted="each concept once")
    for concept, anchor in named:
        if anchor and same_name(anchor, concept, reader):
            raise UserError(f"{concept!r} is its own anchor{_alike(anchor, concept)}",
                            accepted="another thing, or no anchor")
        named_too = [other for other in concepts if anchor and mentions(anchor, other, reader)]
        if named_too:
            raise UserError(f"{concept!r} is to give way to {anchor!r}, but {named_too[0]!r} is to be unlearned",
                            accepted="an anchor that names no concept that goes")


def _check_kept(gone: Sequence[tuple[str, str, tuple[str, ...]]], keep: Sequence[str], reader: Reader) -> None:
    for concept, kind, joint in gone:
        both = [text for text in keep if _names(text, concept, kind, joint, reader)]
        if both:
            why = _alike(both[0], concept) if same_name(both[0], concept, reader) else ""
            raise UserError(f"{concept!r} is to be unlearned and to be kept ({', '.join(map(repr, both))}){why}",
                            accepted="one of the two", remedy="take it out of the things to keep")


def _alike(text: str, name: str) -> str:
    """Why two names that are spelt otherwise are one; "" where it shows."""
    if text.casefold() == name.casefold():
        return ""
    return f": {text!r} and {name!r} are one name to a text encoder or a reader"
