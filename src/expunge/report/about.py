"""What a copy of a report says of itself: who answers for it, and whether something was left out of it."""

from __future__ import annotations

from dataclasses import dataclass

from expunge.records import BenchResult, Evaluation, SequenceResult
from expunge.report.words import counted, model_name

UNSTATED = "not stated"


@dataclass(frozen=True)
class About:
    """Of one copy.

    Attributes:
        by: who made it, as they say themselves; "" where nobody was named. It is never guessed.
        redacted: whether things were left out.
        digest: of the whole record, whatever was left out.
    """

    by: str = ""
    redacted: bool = False
    digest: str = ""


NOBODY = About()
"""Of a copy that nobody answers for: the whole record."""


def first_facts(evaluation: Evaluation, about: About) -> dict[str, str]:
    """What identifies the work, for the first screen: when, of what, by whom; words to text."""
    card, attacked = evaluation.card, evaluation.suite
    made = {"Patch": _day(card.created), "Evaluation": _day(evaluation.created)}
    if attacked is not None:
        made["Attacks"] = _day(attacked.created)
    return _facts(evaluation, about, ", ".join(f"{what.lower()} {when}" for what, when in made.items()),
                  {"Patch": f"{card.method}, tensors {card.tensors_hash[:16]}"})


def bench_facts(result: BenchResult, about: About) -> dict[str, str]:
    """The same of a bench; its patches have hashes of their own in the record."""
    days = sorted({edit.created[:10] for edit in result.edits if edit.created})
    made = f"edits {' to '.join(dict.fromkeys((days[0], days[-1])))}, " if days else ""
    patches = len({edit.patch_hash for edit in result.edits if edit.patch_hash})
    hashed = f", hashes of {counted(patches, 'patches')} in the record" if patches else ""
    return _facts(result, about, f"{made}gathered {_day(result.created)}",
                  {"Edits": f"{len(result.edits)} of {len(result.edits) + result.missing}{hashed}"})


def sequence_facts(result: SequenceResult, about: About) -> dict[str, str]:
    """The same of a sequence; the last patch holds all requests."""
    last = result.states[-1] if result.states else None
    patch = f"after request {last.number}, {result.method}, tensors {last.patch_hash[:16] or 'not recorded'}" \
        if last is not None else "none"
    return _facts(result, about, f"gathered {_day(result.created)}", {"Patch": patch})


def _facts(made: Evaluation | BenchResult | SequenceResult, about: About, date: str, more: dict[str, str]
           ) -> dict[str, str]:
    version = made.versions.get("expunge", "")
    return {"Date": date, "Made by": about.by or UNSTATED,
            "Model": f"{model_name(made.model)}, weights {made.model_hash[:16]}", **more,
            "Record": about.digest or made.digest,
            "Tool": f"expunge {version}" if version else "expunge, version not recorded"}


def _day(created: str) -> str:
    return created[:10] or "not dated"
