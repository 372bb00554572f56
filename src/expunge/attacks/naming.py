"""Where a prompt names the concept, and the same prompt with another word there."""

from __future__ import annotations

import re

_VOWELS = "aeiou"


def named_at(text: str, concept: str) -> tuple[int, int] | None:
    """Start and end of the first place where `text` names `concept` as whole words, in any case; None if nowhere."""
    found = re.search(rf"(?<!\w){re.escape(concept)}(?!\w)", text, flags=re.IGNORECASE)
    return found.span() if found else None


def renamed(text: str, concept: str, word: str) -> str | None:
    """`text` with `word` wherever it names `concept`; None if it does not.

    An indefinite article before it is made to fit; with an empty `word` it goes too.
    """

    def put(found: re.Match[str]) -> str:
        if not found[1]:
            return word
        return f"{'an' if word[0].lower() in _VOWELS else 'a'} {word}" if word else ""

    pattern = rf"(?<!\w)(?:(an?)\s+)?{re.escape(concept)}(?!\w)"
    out, count = re.subn(pattern, put, text, flags=re.IGNORECASE)
    return re.sub(r"\s+", " ", out).strip() if count else None
