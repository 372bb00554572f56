"""A text with another word wherever it names something; articles, plurals and possessives come along."""

from __future__ import annotations

import re

from expunge.records.english import article, head, is_plural, plurals
from expunge.records.naming import Reader, places, read

_BEFORE = re.compile(r"(?<!\w)(an?)\s+$", re.IGNORECASE)


def renamed(text: str, name: str, word: str, reader: Reader = read, *, always: bool = False) -> str | None:
    """`text` with `word` wherever it names `name`; None if it does not have that in it.

    An indefinite article before it is made to fit, with an empty `word` it goes too, and a plural becomes the word's
    plural. What is part of a longer name stays ("a nurse by a nurse shark"), unless the text has the name nowhere else.

    Args:
        always: longer names are changed too.
    """
    found = places(text, name, reader)
    if not found:
        return None
    alone = found if always else [place for place in found if not place.longer] or found
    out, last = [], 0
    for place in alone:
        before = text[last:place.start]
        an = _BEFORE.search(before)
        put = _many(word) if place.form == "plural" and word else word
        if an:
            before = before[:an.start()]
            put = f"{article(put)} {put}" if put else ""
        out += [before, put]
        last = place.end + (_ending(text, place.end) if not word else 0)
    return re.sub(r"\s+", " ", "".join([*out, text[last:]])).strip()


def _many(word: str) -> str:
    """The plural of a name: that of the word that says what it is."""
    one = head(word)
    if is_plural(one):
        return word
    forms = plurals(one)
    usual = forms[0] if len(forms) == 1 or forms[0] != f"{one.lower()}s" else forms[-1]
    return word.replace(one, one[0] + usual[1:], 1)


def _ending(text: str, place: int) -> int:
    """Length of a possessive's ending there."""
    found = re.match(r"['\u2019\u02bc\uff07](?:[sS](?!\w)|(?!\w))", text[place:])
    return len(found[0]) if found else 0
