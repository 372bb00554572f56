"""How the methods of a bench differ, pair by pair, as text: value, interval, n, and what the interval allows to say."""

from __future__ import annotations

from dataclasses import dataclass

from expunge.records import BenchResult, Difference
from expunge.report.words import finite, number


@dataclass(frozen=True)
class DifferenceText:
    """A difference as text, and what its interval allows to be said ("better", "worse" or "")."""

    text: str
    says: str = ""

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return bool(self.says)


@dataclass(frozen=True)
class DifferenceRow:
    """A pair of methods: "a minus b", and a difference per column."""

    words: str
    items: tuple[DifferenceText, ...]


@dataclass(frozen=True)
class DifferenceTable:
    """Every pair of the bench on one concept, or on all of them together."""

    title: str
    heads: tuple[str, ...]
    rows: tuple[DifferenceRow, ...]


COMPARED = (("attack/worst", "elicited, worst case"), ("attack/unlearndiff/total", "elicited by unlearndiff"),
            ("found/all", "found, no attack"), ("gap/found", "gap to unseen wordings"), ("retained/near", "near kept"),
            ("integrity/near", "integrity, near"), ("clip/keep", "CLIP score"))
"""Differences that tables show, with their heads; the record has all of them."""


def difference_tables(result: BenchResult) -> list[DifferenceTable]:
    """All concepts together first, if there are several; then each. Concepts without a comparison are left out."""
    concepts = ["", *result.concepts] if len(result.concepts) > 1 else list(result.concepts)
    out = []
    for concept in concepts:
        found = {(item.method, item.other, item.score): item for item in result.differences if item.concept == concept}
        columns = [(name, head) for name, head in COMPARED if any(score == name for _, _, score in found)]
        pairs = dict.fromkeys((method, other) for method, other, _ in found)
        rows = tuple(DifferenceRow(f"{method} − {other}", tuple(difference_text(found.get((method, other, name)))
                                                                for name, _ in columns)) for method, other in pairs)
        where = f"on “{concept}”" if concept else f"on all concepts together ({', '.join(result.concepts)})"
        if rows:
            out.append(DifferenceTable(f"Differences {where}", ("method − other", *(h for _, h in columns)), rows))
    return out


def difference_text(item: Difference | None) -> DifferenceText:
    """"−12.5 points (−33.3 points to +9.4 points; n 96)", and what it allows to be said."""
    if item is None or item.value is None or finite(item.value) is None:
        return DifferenceText("not measured")
    name = f"change/{item.score.removeprefix('change/')}"
    ends = [finite(end) for end in (item.low, item.high)]
    span = "no interval" if None in ends else " to ".join(number(name, end) for end in ends if end is not None)
    says = ""
    if item.clear and item.higher_is_better is not None:
        says = "better" if (item.value > 0) == item.higher_is_better else "worse"
    return DifferenceText(f"{number(name, item.value)} ({span}; n {item.n})".replace(" points", ""), says)
