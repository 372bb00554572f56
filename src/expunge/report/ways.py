"""The evaluation by way of asking (stratum): found, kept near and far, by each judge, beside the original."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from expunge.records import Evaluation, Score
from expunge.report.classes import Side, undrawn, unjudged_strata
from expunge.report.words import count_text, find, interval_text, number, original_of, value_of

COLUMNS = (("found@", "concept found"), ("second/found@", "second judge"), ("retained/near@", "near kept"),
           ("second/retained/near@", "second judge"), ("retained/far@", "far kept"),
           ("second/retained/far@", "second judge"), ("integrity/near@", "integrity near"))
NOT_DRAWN = "the original does not draw this"
NO_ANSWER = "no answer on the original"


@dataclass(frozen=True)
class Way:
    """One way of asking.

    Attributes:
        name, words: of the stratum. cells: one text per column of `ways`; "" where it was not asked.
    """

    name: str
    words: str
    cells: tuple[str, ...]


def ways(evaluation: Evaluation) -> tuple[tuple[str, ...], list[Way]]:
    """The heads of the columns that have anything in them, and a row per way of asking."""
    there = [(start, head) for start, head in COLUMNS
             if any(find(evaluation, f"{start}{name}") is not None for name in evaluation.strata)]
    none = {start: _for_all(evaluation, start, undrawn) for start, _ in there}
    silent = {start: _for_all(evaluation, start, unjudged_strata) for start, _ in there}
    rows = [Way(name, words, tuple(_cell(evaluation, start, name, name in none[start], name in silent[start])
                                   for start, _ in there))
            for name, words in evaluation.strata.items()]
    return tuple(head for _, head in there), rows if there else []


def _for_all(evaluation: Evaluation, start: str, which: Callable[[Evaluation, Side, str], list[str]]) -> set[str]:
    """The strata that are so for what a column asks for; of several concepts, for each of them."""
    if not start.endswith("found@"):
        return {*which(evaluation, "keep", "")}
    concepts = evaluation.card.request.concepts
    endings = [f"/{concept}" for concept in concepts] if len(concepts) > 1 else [""]
    return set.intersection(*({*which(evaluation, "forget", ending)} for ending in endings))


def _cell(evaluation: Evaluation, start: str, name: str, undrawn: bool, silent: bool) -> str:
    score = find(evaluation, f"{start}{name}")
    if score is None:
        return ""
    if start.startswith("integrity"):
        value = value_of(score)
        return "not measured" if value is None else f"{number(score.name, value)} ({interval_text(score)})"
    original = find(evaluation, original_of(score.name))
    before = f"; original {count_text(original)}" if original is not None and original.n else \
        f"; {NO_ANSWER}" if silent else ""
    if undrawn:
        return f"{NOT_DRAWN}{_before(original)}"
    return f"{count_text(score)} ({interval_text(score)}){before}"


def _before(original: Score | None) -> str:
    return f" ({count_text(original)})" if original is not None and original.n else ""
