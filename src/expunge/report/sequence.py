"""A sequence of requests in tables: found rates of every concept after every request, and the model after each."""

from __future__ import annotations

from dataclasses import dataclass

from expunge.records import Score, SequenceResult, StateScores
from expunge.report.bench import Figure
from expunge.report.versions import several
from expunge.report.words import count_text, duration, interval_text, number, percent, value_of

COLUMNS = (("retained/near", "near kept"), ("retained/far", "far kept"), ("integrity/near", "integrity, near"),
           ("integrity/far", "integrity, far"), ("fid/original", "FID to the original"))
"""Scores of a state that the table shows."""
FAMILIES = {"gone/own": "found", "gone/end": "found", "revival": "change/found", "revival/most": "change/found"}
"""How the sequence's own scores are written: as shares, or as changes of shares."""


@dataclass(frozen=True)
class Cell:
    """A concept after a request.

    Attributes:
        text: "3 of 12"; "" where nothing was measured. share: of pictures that show it, 0 to 1; None without text.
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
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class StateRow:
    """The model after a request: its words, then figures for `state_heads`."""

    words: str
    figures: tuple[Figure, ...]


def matrix(result: SequenceResult) -> list[MatrixRow]:
    """The original first, then a row per request."""
    rows = []
    if result.before:
        known = {score.name.removeprefix("original/found/"): score for score in result.before}
        rows.append(MatrixRow("the original", tuple(_cell(known.get(name), to_come=True) for name in result.concepts)))
    met: set[str] = set()
    for state in result.states:
        own = set(_concepts(state, result))
        met |= own
        known = {score.name.removeprefix("found/"): score for score in state.scores}
        rows.append(MatrixRow(_words(state), tuple(_cell(known.get(name), name in own, name not in met)
                                                   for name in result.concepts)))
    return rows


def _cell(score: Score | None, own: bool = False, to_come: bool = False) -> Cell:
    value = value_of(score)
    if score is None or value is None:
        return Cell("", None, own, to_come)
    return Cell(count_text(score), value, own, to_come)


def state_heads(result: SequenceResult) -> tuple[str, ...]:
    """Heads of the table of states."""
    return ("after", *(head for _, head in _columns(result)), "drift", "edit took")


def state_rows(result: SequenceResult) -> list[StateRow]:
    """One row per request."""
    return [StateRow(_words(state), (*(_figure(_score(state, name)) for name, _ in _columns(result)),
                                     Figure(f"{100 * state.drift:.2f}%"), Figure(_took(state))))
            for state in result.states]


def _columns(result: SequenceResult) -> list[tuple[str, str]]:
    return [(name, head) for name, head in COLUMNS if any(_score(state, name) for state in result.states)]


def over_all(result: SequenceResult) -> list[tuple[str, Figure, str]]:
    """(title, figure, note) of the scores of the whole sequence."""
    return [(score.title, sequence_figure(score), score.note) for score in result.scores]


def sequence_figure(score: Score) -> Figure:
    """A score of the whole sequence, by its own name."""
    return _figure(score.model_copy(update={"name": f"{FAMILIES[score.name]}/all"}))


def headline(result: SequenceResult) -> str:
    """One sentence: how many requests, how much of what was asked for is found at the end, and what came back."""
    count = len(result.states)
    if not count:
        return "No request stands: the model is the original"
    items = [result.settings["requests"][state.number - 1] for state in result.states]
    methods = ", ".join(dict.fromkeys(item.get("method") or result.method for item in items))
    words = f"{count} request{'' if count == 1 else 's'} met by {methods}, strategy {result.strategy}"
    known = {score.name: score for score in result.scores}
    end = known.get("gone/end")
    if end is None or end.value is None:
        return f"{words}; not measured"
    told = f"{words}: at the end {count_text(end)} pictures that ask for one of them show it"
    back = known.get("revival")
    if back is not None and back.value is not None:
        told += f"; revival {number('change/found', back.value)} ({_interval('change/found', back)})"
    return told


def notes(result: SequenceResult) -> list[str]:
    """How to read it, and what it does not say."""
    lines = ["Without attacks: a concept that these prompts do not elicit may still be reached by attackers or by "
             "fine-tuning; attack and relearn the last state's patch."] if result.states else []
    if result.before:
        lines.append("Every state answers the same prompts. A request's own concept is set apart (a frame, bold, or "
                     "square brackets), and so are those to come (grey, or round brackets).")
    if any(state.processor is not None for state in result.states):
        lines.append("The time of an edit is that of the processor, all threads together, where it was not "
                     "interrupted; what it leaves behind for later ones is in it.")
    lines += several([state.versions for state in result.states if state.versions], result.versions, "states")
    if result.withdrawn:
        lines.append(f"Withdrawn, and not in these states: {', '.join(result.withdrawn)}.")
    return [*lines, *(f"Doubt: {line}" for line in _doubts(result))]


def _doubts(result: SequenceResult) -> list[str]:
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
    return {"Model": f"{result.model} ({result.model_hash[:12]})", "Method": result.method,
            "Strategy": result.strategy + (f" with {held}" if held else ""), "Seed": str(result.seed),
            "Machine": result.machine, "Gathered": result.created}


def _concepts(state: StateScores, result: SequenceResult) -> tuple[str, ...]:
    item = result.settings["requests"][state.number - 1]["concept"]
    return tuple(item)


def _words(state: StateScores) -> str:
    return f"{state.number}. {state.concept}"


def _took(state: StateScores) -> str:
    return f"{duration(state.seconds)} by the clock" if state.processor is None else duration(state.processor)


def _score(state: StateScores, name: str) -> Score | None:
    return next((score for score in state.scores if score.name == name), None)


def _figure(score: Score | None) -> Figure:
    value = value_of(score)
    if score is None or value is None:
        return Figure("not measured")
    text = interval_text(score)
    return Figure(number(score.name, value), "" if text == "none" else text,
                  count_text(score) if score.numerator is not None else "")


def _interval(name: str, score: Score) -> str:
    if score.low is None or score.high is None:
        return "no interval"
    return f"95% {number(name, score.low)} to {number(name, score.high)}"


def share_text(cell: Cell) -> str:
    """"25%", or "" where nothing was measured."""
    return "" if cell.share is None else percent(cell.share)
