"""A request in words, before a world completes it: which concepts, which anchors, and whether they agree.

Contradictions are found from the words alone, so that they are told before a model is opened.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from expunge.errors import UserError
from expunge.records.request import Request

Named = tuple[tuple[str, str], ...]
"""(concept, anchor) of each target; "" where it has no anchor."""


def asked(concept: str | Sequence[str], anchor: str | Sequence[str] = "", keep: Sequence[str] = ()) -> Named:
    """Each concept with its anchor, without blanks around them.

    Args:
        concept: a name, or several.
        anchor: what takes its place; with several concepts one for each, in their order, or none at all.
        keep: what must stay.

    Raises:
        UserError: no concept, an empty name, another number of anchors, or a contradiction (see `check_request`).
    """
    names = [name.strip() for name in ([concept] if isinstance(concept, str) else concept)]
    anchors = [name.strip() for name in ([anchor] if isinstance(anchor, str) else anchor)]
    if isinstance(keep, str):
        raise UserError(f"keep is the single text {keep!r}", accepted="a list of texts")
    if not all(names) or not names:
        raise UserError("an empty concept", accepted="a name, for example 'church'")
    if anchors in ([], [""]):
        anchors = [""] * len(names)
    if len(anchors) != len(names):
        count = f"{len(anchors)} anchor{'' if len(anchors) == 1 else 's'} for {len(names)} concept"
        raise UserError(f"{count}{'' if len(names) == 1 else 's'}",
                        accepted="one anchor for each concept, in their order ('' for nothing in particular), or none")
    named = tuple(zip(names, anchors, strict=True))
    _check(named, keep)
    return named


def check_request(request: Request) -> None:
    """Whether a whole request can be granted.

    Raises:
        UserError: an empty name or prompt, the same concept twice, a concept that is its own anchor, an anchor or a
            thing to keep that names a concept.
    """
    asked(request.concepts, [target.anchor for target in request.targets], request.keep)
    for target in request.targets:
        blank = sum(not prompt.strip() for prompt in target.prompts)
        if blank:
            raise UserError(f"{blank} empty prompts that ask for {target.concept!r}", accepted="prompts with words")


def mentions(text: str, name: str) -> bool:
    """Whether `text` names it as whole words, in the singular or the plural, in any case."""
    return re.search(rf"(?<!\w){re.escape(name)}(?:e?s)?(?!\w)", text, re.IGNORECASE) is not None


def _check(named: Named, keep: Sequence[str]) -> None:
    concepts = [concept for concept, _ in named]
    seen: set[str] = set()
    for concept in concepts:
        if concept.casefold() in seen:
            raise UserError(f"{concept!r} is to be unlearned twice", accepted="each concept once")
        seen.add(concept.casefold())
    for concept, anchor in named:
        if anchor.casefold() == concept.casefold():
            raise UserError(f"{concept!r} is its own anchor", accepted="another thing, or no anchor")
        named_too = [other for other in concepts if mentions(anchor, other)]
        if named_too:
            raise UserError(f"{concept!r} is to give way to {anchor!r}, but {named_too[0]!r} is to be unlearned",
                            accepted="an anchor that names no concept that goes")
    for concept in concepts:
        both = [text for text in keep if mentions(text, concept)]
        if both:
            raise UserError(f"{concept!r} is to be unlearned and to be kept ({', '.join(map(repr, both))})",
                            accepted="one of the two", remedy="take it out of the things to keep")
