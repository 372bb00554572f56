"""What a copy of a report says of itself: who answers for it, and whether something was left out of it."""

from __future__ import annotations

from dataclasses import dataclass

from expunge.records import Evaluation
from expunge.report.words import model_name

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


def first_facts(evaluation: Evaluation, about: About) -> dict[str, str]:
    """What identifies the work, for the first screen: when, of what, by whom; words to text."""
    card, attacked = evaluation.card, evaluation.assault
    made = {"Patch": _day(card.created), "Evaluation": _day(evaluation.created)}
    if attacked is not None:
        made["Attacks"] = _day(attacked.created)
    version = evaluation.versions.get("expunge", "")
    return {"Date": ", ".join(f"{what.lower()} {when}" for what, when in made.items()),
            "Made by": about.by or UNSTATED,
            "Model": f"{model_name(evaluation.model)}, weights {evaluation.model_hash[:16]}",
            "Patch": f"{card.method}, tensors {card.tensors_hash[:16]}",
            "Record": about.digest or evaluation.digest,
            "Tool": f"expunge {version}" if version else "expunge, version not recorded"}


def _day(created: str) -> str:
    return created[:10] or "not dated"
