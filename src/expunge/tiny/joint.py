"""One style of one thing ("pixel art church"): what a name stands for, and which cells show it.

A cell is a pair (object, style) of which drawings exist. A thing takes out a row of them, a style a column, a thing in
a style one alone; the other cells of its row and its column are its neighbours.
"""

from __future__ import annotations

from functools import lru_cache

from expunge.records import places, same_name
from expunge.tiny.world import NOT_DRAWN, SEEN, STYLES, THINGS, far, near

_BETWEEN = frozenset({"in", "style", "of", "the", "a", "an", "styled"})


@lru_cache(maxsize=512)
def parts(name: str) -> tuple[str, ...]:
    """What a name stands for: (thing,), (style,), (thing, style) of one that goes only in a style; () if unknown."""
    if name in THINGS or name in STYLES:
        return (name,)
    for style, words in STYLES.items():
        for style_word in words:
            for place in places(name, style_word):
                around = f"{name[:place.start]} {name[place.end:]}".split()
                rest = " ".join(word for word in around if word.lower() not in _BETWEEN)
                thing = next((one for one in THINGS if rest and same_name(one, rest)), None)
                if thing is not None:
                    return (thing, style)
    return ()


def joint(name: str) -> dict[str, str]:
    """The labels that must be seen at once, by question; none for what is no thing in a style."""
    return dict(zip(("object", "style"), parts(name), strict=True)) if len(parts(name)) == 2 else {}


def drawn(name: str) -> bool:
    """Whether any cell shows it."""
    return parts(name) not in NOT_DRAWN


def shows(cell: tuple[str, str], name: str) -> bool:
    """Whether an image of the cell (object, style) shows what the name stands for."""
    return {*parts(name)} <= {*cell}


def neighbours(name: str) -> tuple[str, ...]:
    """Close neighbours by name: of a thing in a style the thing and the style, whose other cells must stay."""
    return parts(name) if joint(name) else near(name)


def thing_of(name: str) -> str:
    """The thing that a name stands for; "" for a style."""
    return "" if name in STYLES else parts(name)[0]


def kept_cells(name: str) -> tuple[tuple[str, str], ...]:
    """Cells to hold on to beside a thing in a style: its other styles; in its style its neighbours and as many far
    things, evenly over the world's."""
    thing, style = parts(name)
    away = far(thing)
    others = (*near(thing), *away[::max(1, len(away) // 4)][:4])
    row = [(thing, other) for other in STYLES if other != style and (thing, other) not in NOT_DRAWN]
    return (*row, *((other, style) for other in others if (other, style) not in NOT_DRAWN and other in SEEN))
