"""Where a prompt names the concept, and the same prompt with another word there."""

from __future__ import annotations

from expunge.records import places
from expunge.records.renaming import renamed

__all__ = ["named_at", "renamed"]


def named_at(text: str, concept: str) -> tuple[int, int] | None:
    """Start and end of the first place where `text` names `concept`, in any form (`records.places`); None if nowhere.

    What is part of a longer name counts only where the text has the concept nowhere else.
    """
    found = places(text, concept)
    best = next((place for place in found if not place.longer), found[0] if found else None)
    return (best.start, best.end) if best else None
