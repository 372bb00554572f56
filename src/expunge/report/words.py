"""How the numbers of an evaluation are written for people: digits, intervals, counts, seeds, durations.

Rates are percent, distances keep the digits that their families usually get. A value that is missing, or
not a finite number, is "not measured" with its reason, never a blank.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from expunge.records import HUB_NAME, NOT_ASKED, NOT_DRAWN, Evaluation, Score, SuiteResult
from expunge.records import counted as counted
from expunge.records.score import SECOND

RATES = frozenset({"found", "retained", "abstained", "attack", "gap", "relearn", "instead", "something_else", "damaged",
                   "agreement", "precision", "recall", "drawn",
                   "margin", "not_finite"})
"""Families (first part of a score's name) whose values are shares in [0, 1] and are written as percent."""

_DIGITS = {"integrity": 2, "integrity_median": 2, "sharpness": 2, "perceptual": 3, "ssim": 3, "fid": 2, "kid": 4,
           "clip": 2}
_MINUS = "\N{MINUS SIGN}"


def model_name(name: str) -> str:
    """What a reader calls a model: of a folder its own name, without the path that somebody typed; else as it is."""
    path = name.strip().replace("\\", "/").rstrip("/")
    if "/" not in path or HUB_NAME.fullmatch(path):
        return name
    return path.rpartition("/")[2]


def bare(name: str) -> str:
    """A score's name without judge and subject: "original/found/all", "second/change/found/all" -> "found/all"."""
    return name.removeprefix(SECOND).removeprefix("original/").removeprefix("change/")


def original_of(name: str) -> str:
    """The name of the original's score beside the edited model's: "second/found/all" -> "second/original/found/all"."""
    judge = SECOND if name.startswith(SECOND) else ""
    return f"{judge}original/{name.removeprefix(judge)}"


def family(name: str) -> str:
    """First part of a score's bare name: "original/found/direct", "found@short" -> "found"."""
    return bare(name).split("/")[0].split("@")[0]


def all_scores(evaluation: Evaluation) -> tuple[Score, ...]:
    """The evaluation's scores, then those of the attacks."""
    return evaluation.scores + (evaluation.suite.scores if evaluation.suite else ())


def find(evaluation: Evaluation | SuiteResult, name: str) -> Score | None:
    """The score called `name`, or None if the record has none."""
    scores = all_scores(evaluation) if isinstance(evaluation, Evaluation) else evaluation.scores
    return next((score for score in scores if score.name == name), None)


def value_of(score: Score | None) -> float | None:
    """The score's value if it is there and finite."""
    return finite(score.value) if score is not None else None


def finite(value: float | None) -> float | None:
    """`value`, or None if it is not a finite number."""
    return value if value is not None and math.isfinite(value) else None


def percent(value: float) -> str:
    """0.0238 -> "2.4%"; exact 0 and 1 carry no decimals, and nothing else is rounded into them."""
    if value in (0, 1):
        return f"{value:.0%}"
    if 0 < value < 0.0005:
        return "<0.1%"
    if 0.9995 < value < 1:
        return ">99.9%"
    return f"{value:.1%}".replace("-", _MINUS)


def number(name: str, value: float) -> str:
    """`value` of the score `name`, with the digits of its family; changes of rates in percentage points."""
    change = name.removeprefix("second/").startswith("change/")
    if family(name) in RATES:
        return f"{100 * value:+.1f} points".replace("-", _MINUS) if change else percent(value)
    digits = _DIGITS.get(family(name))
    if digits is not None and 0 < abs(value) < 10.0 ** -digits:
        digits = min(8, 1 - math.floor(math.log10(abs(value))))  # two digits that are not zero
    sign = "+" if change else ""
    text = f"{value:{sign}.4g}" if digits is None else f"{value:{sign}.{digits}f}"
    return text.replace("-", _MINUS)


def value_text(score: Score | None) -> str:
    """The value, or "not measured: <why>"."""
    if score is None:
        return "not measured: the evaluation has no such score"
    value = value_of(score)
    if value is None:
        return f"not measured: {score.note.removeprefix('not measured: ') or 'no reason given'}"
    return number(score.name, value)


def interval_text(score: Score) -> str:
    """"0.8% to 6.8%"; "none" where the score has no interval."""
    low, high = finite(score.low), finite(score.high)
    if value_of(score) is None or low is None or high is None:
        return "none"
    return f"{number(score.name, low)} to {number(score.name, high)}"


def left_out(score: Score) -> int:
    """How many items are not in n."""
    return sum(score.left_out.values())


def unjudged(score: Score) -> int:
    """How many items got no answer: those left out but for images that say nothing or were not asked about."""
    return left_out(score) - sum(score.left_out.get(reason, 0) for reason in (NOT_DRAWN, NOT_ASKED))


def left_out_text(score: Score) -> str:
    """"2 abstained, 1 detector failed"; "none"."""
    parts = [f"{count} {reason}" for reason, count in score.left_out.items() if count]
    return ", ".join(parts) or "none"


def count_text(score: Score) -> str:
    """"3 of 126" for rates with a count, otherwise "126 images"."""
    if score.numerator is not None:
        return f"{score.numerator} of {score.n}"
    return counted(score.n, score.of)


def quoted(names: Iterable[str]) -> str:
    """("church", "bomb") -> "“church”, “bomb”"."""
    return ", ".join(f"“{name}”" for name in names)


def seeds_text(seeds: Iterable[int]) -> str:
    """Runs of neighbours shortened: (0, 1, 2, 7) -> "0–2, 7"."""
    runs: list[list[int]] = []
    for seed in sorted(set(seeds)):
        if runs and seed == runs[-1][1] + 1:
            runs[-1][1] = seed
        else:
            runs.append([seed, seed])
    return ", ".join(str(a) if a == b else f"{a}{', ' if b == a + 1 else '–'}{b}" for a, b in runs)


def duration(seconds: float) -> str:
    """42.3 -> "42 s", 200 -> "3 min 20 s", 7300 -> "2 h 1 min"; zero and less were not recorded."""
    if not math.isfinite(seconds) or seconds <= 0:
        return "not recorded"
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if whole < 10 else f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
