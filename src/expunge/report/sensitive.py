"""What is covered until a reader asks for it, and what is left out of a copy to hand out.

Covered, by a blur that a click takes away: pictures and prompts that ask for explicit or violent content, and what
attacks made of it. Left out of a redacted copy: all that, the wordings with which attacks got anything, and folders; of
a sequence also who asked and what a request rests on; of a bench also what failed cells said, which may hold any of it.
A blur is no protection: what it covers is in the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from expunge.records import (
    FORGET_ROLES,
    Assault,
    Attempt,
    BenchResult,
    Evaluation,
    PatchCard,
    Prompt,
    Request,
    SequenceResult,
    guess_kind,
)
from expunge.report.words import model_name

LEFT_OUT = "(left out of this copy)"
WITHOUT = ("A copy with parts left out: explicit and violent pictures and prompts, the wordings that attacks found, "
           "and names of folders. The scores are those of the whole record.")
WITHOUT_REASONS = ("A copy with parts left out: what failed cells said, and names of folders. The scores are those of "
                   "the whole record.")
WITHOUT_PEOPLE = ("A copy with parts left out: who asked and what requests rest on, and names of folders. The scores "
                  "are those of the whole record.")
"""Of a bench and of a sequence."""


def sensitive(request: Request) -> bool:
    """Whether one of the concepts is explicit or violent, by its kind or, where none is recorded, by its name."""
    return any("explicit" in {target.kind, guess_kind(target.concept)} for target in request.targets)


def sensitive_names(concepts: Iterable[str]) -> bool:
    """The same of concepts that are known by their names alone."""
    return any(guess_kind(name) == "explicit" for name in concepts)


def sensitive_bench(result: BenchResult) -> bool:
    """Whether one of a bench's concepts is explicit or violent."""
    named = [name for column in result.settings.get("concepts", []) for name in _names(column.get("concept", ()))]
    return sensitive_names([*named, *result.concepts])


def sensitive_sequence(result: SequenceResult) -> bool:
    """Whether one of a sequence's concepts is explicit or violent, one that was withdrawn included."""
    named = [name for item in result.settings.get("requests", []) for name in _names(item.get("concept", ()))]
    return sensitive_names([*named, *result.concepts])


def redacted_bench(result: BenchResult) -> BenchResult:
    """A bench without what a copy to hand out leaves out. Scores, counts and hashes stay."""
    edits = tuple(edit.model_copy(update={"failure": LEFT_OUT if edit.failure else ""}) for edit in result.edits)
    return result.model_copy(update={"model": model_name(result.model), "settings": _plain(result.settings),
                                     "edits": edits})


def redacted_sequence(result: SequenceResult) -> SequenceResult:
    """A sequence without what a copy to hand out leaves out. Scores, counts and hashes stay."""
    settings = {key: value if key == "requests" else _plain(value) for key, value in result.settings.items()}
    settings["requests"] = [_plain(_without(item, "who", "evidence")) | {
        "withdrawn": _without(item["withdrawn"], "who", "why") if item.get("withdrawn") else None}
        for item in result.settings.get("requests", [])]
    return result.model_copy(update={"model": model_name(result.model), "settings": settings})


def _without(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {key: LEFT_OUT if key in names and value else value for key, value in values.items()}


def _names(told: Any) -> tuple[str, ...]:
    return (told,) if isinstance(told, str) else tuple(told)


def redacted(evaluation: Evaluation) -> Evaluation:
    """The record without what a copy to hand out leaves out. Scores, counts and hashes stay."""
    cover = sensitive(evaluation.card.request)
    strips = tuple(strip.model_copy(update={"prompt": LEFT_OUT, "original": (), "edited": (), "seeds": ()})
                   if cover and strip.role in FORGET_ROLES else strip for strip in evaluation.strips)
    return evaluation.model_copy(update={
        "card": _card(evaluation.card, cover), "model": model_name(evaluation.model), "strips": strips,
        "finds": () if cover else tuple(find.model_copy(update={"text": ""}) for find in evaluation.finds),
        "assault": _assault(evaluation.assault, cover) if evaluation.assault is not None else None,
        "settings": _plain(evaluation.settings)})


def _card(card: PatchCard, cover: bool) -> PatchCard:
    return card.model_copy(update={"base": model_name(card.base), "settings": _plain(card.settings),
                                   "request": _request(card.request, cover)})


def _request(request: Request, cover: bool) -> Request:
    if not cover:
        return request
    also = tuple(target.model_copy(update={"prompts": (LEFT_OUT,)}) for target in request.also)
    return request.model_copy(update={"prompts": (LEFT_OUT,), "also": also})


def _assault(assault: Assault, cover: bool) -> Assault:
    """Attempts without wordings; prompts that are left out stay apart from one another by number."""
    numbers: dict[str, str] = {}

    def prompt(asked: Prompt) -> Prompt:
        if not cover:
            return asked
        name = numbers.setdefault(asked.text, f"{LEFT_OUT[:-1]}, prompt {len(numbers) + 1})")
        return asked.model_copy(update={"text": name})

    def attempt(made: Attempt) -> Attempt:
        return made.model_copy(update={
            "prompt": prompt(made.prompt), "text": "", "ids": (), "reread": (), "picture": "", "tensors": "",
            "note": "" if cover else made.note, "error": LEFT_OUT if made.error and cover else made.error})

    runs = tuple(run.model_copy(update={"attempts": tuple(map(attempt, run.attempts)),
                                        "control": tuple(map(attempt, run.control)), "settings": _plain(run.settings)})
                 for run in assault.runs)
    return assault.model_copy(update={
        "card": _card(assault.card, cover) if assault.card is not None else None, "model": model_name(assault.model),
        "request": _request(assault.request, cover), "before": tuple(map(attempt, assault.before)), "runs": runs,
        "settings": _plain(assault.settings)})


def _plain(value: Any) -> Any:
    """Settings with the names of folders before a file's or a model's left out."""
    if isinstance(value, str):
        return value if "," in value else model_name(value)
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(_plain, value))
    return value
