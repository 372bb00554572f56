"""What people saw: their blind labels beside an evaluation, and how far they agree with the judges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from expunge.records import Evaluation, counted
from expunge.records.labels import Agreement, Labels
from expunge.records.stored import LABELS
from expunge.report.words import percent

SIDES = {"all": "all", "original": "the original's", "edited": "the edited model's"}
OTHERS = "labels.json beside it is about another edit, and is not shown."


def people(evaluation: Evaluation, folder: Path, redacted: bool = False) -> dict[str, Any] | None:
    """What the section on people shows; None where nobody has labelled an image.

    Args:
        redacted: people are numbered, and not named.
    """
    if LABELS.at(folder) is None:
        return None
    labels = LABELS.read(folder)
    if labels.patch_hash != evaluation.card.tensors_hash:
        return {"sentence": OTHERS, "rows": [], "samples": []}
    names = {f"person: {one.person}": f"person {place}" if redacted else one.person
             for place, one in enumerate(labels.people, 1)}
    done = [one for one in labels.people if one.answered]
    if not done:
        return None
    return {"sentence": people_sentence(labels), "question": done[0].question,
            "rows": [_row(one, names) for one in labels.agreement],
            "samples": [f"{names[f'person: {one.person}']}: {one.answered} of {counted(len(one.labels), 'images')}, "
                        f"drawn by seed {one.seed}, {sum(label.answer == 'unsure' for label in one.labels)} unsure, "
                        f"begun {one.created[:10]}" for one in done]}


def people_sentence(labels: Labels) -> str:
    """How far people and the first judge agree, in a sentence with n and interval."""
    who = len({one.person for one in labels.people if one.answered})
    said = len({label.shot for one in labels.people for label in one.labels if label.answer})
    first = next((one for one in labels.agreement if one.side == "all" and not one.other.startswith("person: ")), None)
    begin = f"{counted(who, 'people')} labelled {counted(said, 'images')} blind" if who > 1 else \
        f"One person labelled {counted(said, 'images')} blind"
    if first is None or first.agreed is None:
        return f"{begin}; no judge answered for any of them."
    kappa = "" if first.kappa is None else f", kappa {first.kappa:.2f}"
    ends = "" if first.low is None or first.high is None else f" ({first.low:.2f} to {first.high:.2f})"
    whose = "" if who == 1 else " with the first of them"
    return f"{begin}; the judge agrees{whose} on {percent(first.agreed)} of {first.n}{kappa}{ends}."


def _row(one: Agreement, names: dict[str, str]) -> dict[str, str]:
    return {"one": names.get(one.one, one.one), "other": names.get(one.other, one.other),
            "side": SIDES.get(one.side, one.side),
            "agreed": "not measured" if one.agreed is None else
            f"{percent(one.agreed)} of {one.n}" + (f", {one.left_out} left out" if one.left_out else ""),
            "kappa": "says nothing" if one.kappa is None else f"{one.kappa:.2f}",
            "interval": "no interval" if one.low is None or one.high is None else f"{one.low:.2f} to {one.high:.2f}",
            "how": one.interval}
