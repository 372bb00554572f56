"""A protocol's result as a table: Markdown and CSV.

A row holds the value of the edited model with its interval and n, and the original's beside it; what was left out is
told in the row. Where a stand-in detector took part, no number is given.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping

from expunge.errors import UserError
from expunge.protocols.schema import Benchmark
from expunge.records import Score
from expunge.records.protocol import ProtocolResult, Threshold
from expunge.untrusted import in_markdown

REFUSED = "a stand-in for tests took part: its numbers mean nothing and are not given"
HEAD = ("score", "edited", "95% interval", "n", "prompts", "original", "original's interval", "left out")


def rows_of(result: ProtocolResult) -> Iterator[tuple[str, ...]]:
    """The cells of each score, under `HEAD`; scores of the original alone stand in their own row."""
    originals = {score.name.removeprefix("original/"): score for score in result.scores
                 if score.name.startswith("original/")}
    edited = [score for score in result.scores if not score.name.startswith("original/")]
    for score in edited:
        yield _cells(score, originals.pop(score.name, None))
    for name, score in originals.items():
        yield (score.title or name, "", "", str(score.n), str(score.prompts or ""), _value(score), _interval(score),
               _left_out(score))


def markdown(result: ProtocolResult) -> str:
    """The table with what a reader needs to trust it."""
    lines = [f"### {in_markdown(result.protocol)}", "",
             f"{in_markdown(_sentence(result.title))} Source: {in_markdown(result.source)}.", ""]
    if result.test_only:
        return "\n".join([*lines, f"{_sentence(REFUSED)}", ""])
    lines += ["| " + " | ".join(HEAD) + " |", "| " + " | ".join("---" for _ in HEAD) + " |"]
    lines += ["| " + " | ".join(map(in_markdown, row)) + " |" for row in rows_of(result)]
    lines += ["", *(in_markdown(_sentence(line)) for line in told(result))]
    return "\n".join(lines) + "\n"


def told(result: ProtocolResult) -> list[str]:
    """In sentences, what the numbers rest on."""
    lost = ", ".join(f"{count} {why}" for why, count in result.left_out.items())
    out = [f"{result.rows} rows were asked" + (f"; left out: {lost}" if lost else "")]
    if result.deviations:
        out.append("Not as the protocol says: " + "; ".join(result.deviations))
    if result.transfer:
        out.append("The prompts were found on other models: this is a transfer set, not an attack on this model")
    out += [f"{name}: {detector}" for name, detector in result.detectors.items()]
    out += [_threshold_words(one) for one in result.thresholds]
    out += [f"{file.role}: sha256 {file.sha256}" + (f", known by {file.matched}" if file.matched else
                                                    ", of which the protocol knows no hash") for file in result.files]
    if not result.attack:
        out += ["The attack was not made: `expunge attack --protocol` makes it"] * result.adaptive
    missing = unanswered(result)
    if missing:
        out.append(f"No result for the benchmark's {', '.join(f'{task} ({why})' for task, why in missing.items())}")
    return [*out, *result.notes]


def own_scores(result: ProtocolResult) -> dict[str, Score]:
    """The scores of what was measured, by the protocol's names: of the edited model, or of supplied images; of a run
    without an edit those of the model as it is."""
    own = {score.name: score for score in result.scores if not score.name.startswith("original/")}
    if result.patch_hash:
        return own
    return {**own, **{score.name.removeprefix("original/"): score for score in result.scores
                      if score.name.startswith("original/")}}


def counts_for(result: ProtocolResult) -> Benchmark | None:
    """The benchmark on the Hub that the run's scores are results of; None where there is none, or the run deviates."""
    if not result.benchmark or result.deviations:
        return None
    return Benchmark.build(result.benchmark, "the record's benchmark")


def unanswered(result: ProtocolResult) -> Mapping[str, str]:
    """The tasks of the benchmark that the run has no number for, and why."""
    benchmark, scores = counts_for(result), own_scores(result)
    if benchmark is None:
        return {}
    return {task: f"{name} was not measured" if name in scores else f"there is no score {name}"
            for name, task in benchmark.tasks.items() if name not in scores or scores[name].value is None}


def as_csv(result: ProtocolResult) -> str:
    """The table as CSV, one line a score.

    Raises:
        UserError: a stand-in took part.
    """
    check_names_numbers(result)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("protocol", "version", *HEAD))
    writer.writerows((result.protocol, result.version, *row) for row in rows_of(result))
    return text.getvalue()


def _cells(score: Score, original: Score | None) -> tuple[str, ...]:
    return (score.title or score.name, _value(score), _interval(score), str(score.n), str(score.prompts or ""),
            _value(original) if original else "", _interval(original) if original else "", _left_out(score))


def _value(score: Score) -> str:
    if score.value is None:
        return "not measured"
    if _is_rate(score):
        return f"{score.value:.1%} ({score.numerator} of {score.n})"
    return f"{score.value:.4g}"


def _interval(score: Score) -> str:
    if score.low is None or score.high is None:
        return ""
    if _is_rate(score):
        return f"{score.low:.1%} to {score.high:.1%}"
    return f"{score.low:.4g} to {score.high:.4g}"


def _is_rate(score: Score) -> bool:
    """Whether the value is a share of n; a sum of detections has a numerator, too."""
    return score.numerator is not None and "detections" not in score.of


def _left_out(score: Score) -> str:
    parts = [f"{count} {why}" for why, count in score.left_out.items() if count]
    return "; ".join([*parts, *([score.note] if score.note else [])])


def _threshold_words(one: Threshold) -> str:
    rates = ", ".join(f"{cut:g}: {'' if measured else 'at least '}{yes} of {n}" for cut, yes, n, measured in one.rates)
    return f"{one.detector}, {one.subject}, images by threshold: {rates}"


def check_names_numbers(result: ProtocolResult) -> None:
    """Raise UserError where a stand-in took part: no number of it is given."""
    if result.test_only:
        raise UserError(REFUSED, accepted="a result of the protocol's own detectors")


def _sentence(words: str) -> str:
    text = " ".join(words.split())
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith((".", ":")) else ".")
