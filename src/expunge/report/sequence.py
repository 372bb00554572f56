"""A sequence of requests in tables: found rates of every concept after every request, and the model after each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from expunge.records import Score, SequenceResult, StateScores
from expunge.records.score import SECOND
from expunge.report.bench import Figure
from expunge.report.versions import several
from expunge.report.words import (
    count_text,
    duration,
    finite,
    interval_text,
    left_out,
    left_out_text,
    model_name,
    number,
    original_of,
    percent,
    value_of,
)

COLUMNS = (("retained/near", "near kept"), (f"{SECOND}retained/near", "near kept, second judge"),
           ("retained/far", "far kept"), (f"{SECOND}retained/far", "far kept, second judge"),
           ("integrity/near", "integrity, near"), ("integrity/far", "integrity, far"),
           ("fid/original", "FID to the original"))
"""Scores of a state that the table shows."""
FAMILIES = {"gone/own": "found", "gone/end": "found", "revival": "change/found", "revival/most": "change/found"}
"""How the sequence's own scores are written: as shares, or as changes of shares."""


@dataclass(frozen=True)
class ConceptCell:
    """A concept after a request.

    Attributes:
        text: "3 of 12"; "" where nothing was measured. share: of images that show it, 0 to 1; None without text.
        own: it is the request's own concept. to_come: it is not asked for yet.
    """

    text: str
    share: float | None
    own: bool = False
    to_come: bool = False


@dataclass(frozen=True)
class MatrixRow:
    """The model after a request: its words, and a cell for each concept."""

    words: str
    cells: tuple[ConceptCell, ...]


@dataclass(frozen=True)
class Matrix:
    """What one judge found of every concept after every request; `title` says who, "" where there is but one."""

    title: str
    rows: tuple[MatrixRow, ...]


@dataclass(frozen=True)
class StateRow:
    """The model after a request: its words, then figures for `state_heads`."""

    words: str
    figures: tuple[Figure, ...]


def matrices(result: SequenceResult) -> list[Matrix]:
    """What each judge found; the second one's only where the states have it."""
    there = any(score.name.startswith(f"{SECOND}found/") for state in result.states for score in state.scores)
    first = Matrix("The first judge" if there else "", tuple(matrix(result)))
    return [first, Matrix("The second judge", tuple(matrix(result, SECOND)))] if there else [first]


def matrix(result: SequenceResult, judge: str = "") -> list[MatrixRow]:
    """The original first, then a row per request; `judge`: what its scores' names begin with."""
    rows = []
    if result.before:
        known = {score.name.removeprefix(f"{judge}original/found/"): score for score in result.before}
        rows.append(MatrixRow("the original", tuple(_cell(known.get(name), to_come=True) for name in result.concepts)))
    met: set[str] = set()
    for state in result.states:
        own = set(_concepts(state, result))
        met |= own
        known = {score.name.removeprefix(f"{judge}found/"): score for score in state.scores}
        rows.append(MatrixRow(_words(state), tuple(_cell(known.get(name), name in own, name not in met)
                                                   for name in result.concepts)))
    return rows


def _cell(score: Score | None, own: bool = False, to_come: bool = False) -> ConceptCell:
    value = value_of(score)
    if score is None or value is None:
        return ConceptCell("", None, own, to_come)
    silent = f", {left_out(score)} left out" if left_out(score) else ""
    return ConceptCell(f"{count_text(score)}{silent}", value, own, to_come)


def state_heads(result: SequenceResult) -> tuple[str, ...]:
    """Heads of the table of states."""
    return ("after", *(head for _, head in _columns(result)), "drift", "edit took")


def state_rows(result: SequenceResult) -> list[StateRow]:
    """What the original keeps of the same, where that was measured, then one row per request."""
    names, known = [name for name, _ in _columns(result)], {score.name: score for score in result.before}
    rows = [StateRow(_words(state), (*(_figure(_score(state, name)) for name in names),
                                     Figure(_drift(state.drift)), Figure(_took(state)))) for state in result.states]
    before = [known.get(original_of(name)) for name in names]
    if not any(before):
        return rows
    first = [_figure(score) if score else Figure("\N{EN DASH}") for score in before]
    return [StateRow("the original", (*first, Figure("\N{EN DASH}"), Figure("\N{EN DASH}"))), *rows]


def _columns(result: SequenceResult) -> list[tuple[str, str]]:
    return [(name, head) for name, head in COLUMNS if any(_score(state, name) for state in result.states)]


def over_all(result: SequenceResult) -> list[tuple[str, Figure, str]]:
    """(title, figure, note) of the scores of the whole sequence."""
    return [(score.title, sequence_figure(score), "; ".join(filter(None, (
        score.note, f"left out: {left_out_text(score)}" if left_out(score) else "")))) for score in result.scores]


def sequence_figure(score: Score) -> Figure:
    """A score of the whole sequence, by its own name."""
    family = FAMILIES.get(score.name.removeprefix(SECOND), score.name)
    return _figure(score.model_copy(update={"name": f"{family}/all"}))


def headline(result: SequenceResult) -> str:
    """One sentence: how many requests, what is found at the end of what the original draws, and what changed since.

    Nothing is said of the erasure of a concept that the original itself may not draw, and nothing of a change whose
    interval holds 0.
    """
    count = len(result.states)
    if not count:
        standing = any(item.withdrawn is None for item in result.requests)
        return "No request was met yet: nothing was measured" if standing else \
            "No request stands: the model is the original"
    items = [result.requests[state.number - 1] for state in result.states]
    methods = ", ".join(dict.fromkeys(item.method or result.method for item in items))
    words = f"{count} request{'' if count == 1 else 's'}, an edit for each by {methods}, strategy {result.strategy}"
    found = _found_at_the_end(result)
    return f"{words}: {found}" if found else f"{words}; what is still found was not measured"


def _found_at_the_end(result: SequenceResult) -> str:
    """"at the end 3 of 24 images that ask for one of them show it (...)", what changed, and what cannot be told."""
    measured = [state for state in result.states if any(score.name.startswith("found/") for score in state.scores)]
    known = {score.name: score for score in result.scores}
    end, asked = known.get("gone/end"), [name for state in measured for name in _concepts(state, result)]
    silent = {name: score for name, score in result.undrawn.items() if name in asked}
    parts, sure = [], [name for name in dict.fromkeys(asked) if name not in silent]
    counted_apart = not silent or (end is not None and bool(end.left_out))
    if end is not None and value_of(end) is not None and sure and counted_apart:
        parts.append(f"{_count_at_the_end(result, measured[-1], end, sure)}"
                     f"{_to_the_second(known.get(f'{SECOND}gone/end'))}")
        change = known.get("revival")
        parts += [_change(change)] if value_of(change) is not None and change is not None else []
    kept = _score(measured[-1], "retained/near") if measured else None
    if parts and kept is not None and value_of(kept) is not None:
        parts.append(f"near things drawn as asked in {count_text(kept)} ({_interval('retained/near', kept)})")
    if silent:
        parts.append(f"of {', '.join(silent)} nothing can be said: {_undrawn(silent.values())}")
    return "; ".join(parts)


def _count_at_the_end(result: SequenceResult, last: StateScores, end: Score, sure: Sequence[str]) -> str:
    when = "at the end" if last.number == result.states[-1].number else \
        f"after request {last.number}, the last one that was measured,"
    before = [score for score in result.before if score.name.removeprefix("original/found/") in sure]
    unsaid = sum(left_out(score) for name in sure if (score := _score(last, f"found/{name}")) is not None)
    more = f"; {unsaid} more without an answer" if unsaid else ""
    which = "it" if len(sure) == 1 else "one of them" if not end.left_out else f"one of {', '.join(sure)}"
    original = f"{sum(score.numerator or 0 for score in before)} of {sum(score.n for score in before)}"
    alone = "" if len(sure) == 1 else " for these concepts alone"  # prompts are its unit, not concepts
    return (f"{when} {count_text(end)} images that ask for {which} show it ({percent(end.value or 0.0)}, "
            f"{_interval('found/all', end)}{alone}; the original's {original}{more})")


def _to_the_second(end: Score | None) -> str:
    """"; by the second judge 5 of 60 (95% ...)"; "" where there is none or it could not tell."""
    if end is None or value_of(end) is None:
        return ""
    return f"; by the second judge {count_text(end)} ({_interval('found/all', end)})"


def _change(change: Score) -> str:
    """What the interval allows to be said of the change since each concept's own request."""
    low, high = finite(change.low), finite(change.high)
    size = f"{number('change/found', change.value or 0.0)} ({_interval('change/found', change)}, " \
           f"n {change.n}{f'; {change.note}' if change.note else ''})"
    if low is None or high is None:
        return f"since each one's own request {size}, of which no more can be said"
    if low <= 0 <= high:
        return f"no change since each one's own request that could be told from 0: {size}"
    return f"found {'more' if low > 0 else 'less'} often than right after its own request: {size}"


def _undrawn(scores: Iterable[Score | None]) -> str:
    """"the original draws it in 0 of 8 images (95% 0% to 32.4%)"."""
    shares = [f"{count_text(score)} images ({_interval('found/all', score)})" if score is not None and score.n else
              "no image that was judged" for score in scores]
    return f"the original itself draws {'it' if len(shares) == 1 else 'them'} in {', '.join(shares)}"


def notes(result: SequenceResult) -> list[str]:
    """How to read it, and what it does not say."""
    measured = any(state.scores for state in result.states)
    lines = ["Without attacks: a concept that these prompts do not elicit may still be reached by attackers or by "
             "fine-tuning; attack and relearn the last state's patch."] if measured else []
    if result.before:
        lines.append("Every state answers the same prompts. A request's own concept is set apart (a frame, bold, or "
                     "square brackets), and so are those to come (grey, or round brackets).")
        lines += [f"“{name}”: {_undrawn([score])}. That is too little for anything to be said of its erasure: it "
                  "counts in nothing that is said of the whole sequence." for name, score in result.undrawn.items()]
    if any("independent" in score.interval for score in result.scores):
        lines.append("Intervals of shares take images as independent. Images of one prompt resemble one another, "
                     "so these intervals are too narrow.")
    if any(state.processor is not None for state in result.states):
        lines.append("The time of an edit is that of the processor, all threads together, where it was not "
                     "interrupted; what it leaves behind for later ones is in it.")
    lines += several([state.versions for state in result.states if state.versions], result.versions, "states")
    if result.withdrawn:
        lines.append(f"Withdrawn, and not in these states: {', '.join(result.withdrawn)}.")
    return [*lines, *(f"Warning: {line}" for line in _warnings(result))]


def _warnings(result: SequenceResult) -> list[str]:
    """Each once; those that differ in the concept alone are one, with all of the concepts before it."""
    alike: dict[str, dict[str, str]] = {}  # the line without its concept -> lines by concept
    for line in dict.fromkeys(line for state in result.states for line in state.warnings):
        named = [name for name in result.concepts if f"“{name}”" in line]
        name = named[0] if len(named) == 1 else ""
        alike.setdefault(line.replace(f"“{name}”", "one of them"), {})[name] = line
    return [f"{', '.join(lines)}: {form}" if len(lines) > 1 else next(iter(lines.values()))
            for form, lines in alike.items()]


def settings_of(result: SequenceResult) -> dict[str, str]:
    """What decides the sequence, in words."""
    held = result.settings.get("holding") or {}
    return {"Model": f"{model_name(result.model)} ({result.model_hash[:12]})", "Method": result.method,
            "Strategy": result.strategy + (f" with {held}" if held else ""), "Seed": str(result.seed),
            "Machine": result.machine, "Gathered": result.created}


def _concepts(state: StateScores, result: SequenceResult) -> tuple[str, ...]:
    return result.requests[state.number - 1].concept


def _words(state: StateScores) -> str:
    return f"{state.number}. {state.concept}"


def _took(state: StateScores) -> str:
    if state.processor is not None:
        return duration(state.processor)
    took = duration(state.seconds)
    return took if took == duration(0.0) else f"{took} by the clock"


def _drift(drift: float) -> str:
    """"0.15%"; what is not 0 is not written as 0."""
    known = finite(drift)
    if known is None:
        return "not measured"
    return "<0.01%" if 0 < known < 0.00005 else f"{100 * known:.2f}%"


def _score(state: StateScores, name: str) -> Score | None:
    return next((score for score in state.scores if score.name == name), None)


def _figure(score: Score | None) -> Figure:
    value = value_of(score)
    if score is None or value is None:
        return Figure("not measured")
    text = interval_text(score)
    return Figure(number(score.name, value), "" if text == "none" else text, count_text(score))


def _interval(name: str, score: Score) -> str:
    low, high = finite(score.low), finite(score.high)
    return "no interval" if low is None or high is None else f"95% {number(name, low)} to {number(name, high)}"


def share_text(cell: ConceptCell) -> str:
    """"25%", or "" where nothing was measured."""
    return "" if cell.share is None else percent(cell.share)
