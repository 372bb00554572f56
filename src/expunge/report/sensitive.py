"""What is covered until a reader asks for it, and what is left out of a copy to hand out.

Covered, by a blur that a click takes away: images and prompts that ask for explicit or violent content, and what
attacks made of it. Left out of a redacted copy: all that, the wordings with which attacks got anything, and folders; of
a sequence also who asked and what a request rests on; of a bench also what failed cells said, which may hold any of it.
A blur is no protection: what it covers is in the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from expunge.records import (
    FORGET_ROLES,
    Attempt,
    BenchResult,
    Evaluation,
    PatchCard,
    Prompt,
    Request,
    SequenceResult,
    SuiteResult,
    guess_kind,
)
from expunge.report.covering import LEFT_OUT, Covering, paths_in, without_folders

WITHOUT = ("A copy with parts left out: explicit and violent images and prompts, the wordings that attacks found, "
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
    return sensitive_names([*(name for column in result.columns for name in column.concept), *result.concepts])


def sensitive_sequence(result: SequenceResult) -> bool:
    """Whether one of a sequence's concepts is explicit or violent, one that was withdrawn included."""
    return sensitive_names([*(name for item in result.requests for name in item.concept), *result.concepts])


def redacted_bench(result: BenchResult) -> BenchResult:
    """A bench without what a copy to hand out leaves out. Scores, counts and hashes stay."""
    edits = tuple(edit.model_copy(update={"failure": LEFT_OUT if edit.failure else ""}) for edit in result.edits)
    return without_folders(result.model_copy(update={"edits": edits}))


def redacted_sequence(result: SequenceResult) -> SequenceResult:
    """A sequence without what a copy to hand out leaves out. Scores, counts and hashes stay."""
    requests = [_without(item, "who", "evidence") | {
        "withdrawn": _without(item["withdrawn"], "who", "why") if item.get("withdrawn") else None}
        for item in result.settings.get("requests", [])]
    return without_folders(result.model_copy(update={"settings": {**result.settings, "requests": requests}}))


def _without(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {key: LEFT_OUT if key in names and value else value for key, value in values.items()}


def redacted(evaluation: Evaluation) -> Evaluation:
    """The record without what a copy to hand out leaves out. Scores, counts and hashes stay.

    What has a place of its own in the record is emptied there. Then every text of the whole record, keys included, is
    walked with the prompts and folders that are known (`covering`).
    """
    cover = sensitive(evaluation.card.request)
    made = (evaluation.suite, evaluation.relearning)
    requests = [evaluation.card.request, *(one.request for one in made if one is not None)]
    spared = {name for request in requests for target in request.targets
              for name in (target.concept, target.anchor, target.word, *target.joint.values())}
    spared |= {text for request in requests for text in request.keep}
    spared |= {strip.prompt for strip in evaluation.strips if strip.role not in FORGET_ROLES}
    asked = _asked(evaluation, requests) if cover else ()
    covering = Covering(asked, spared, (*paths_in(evaluation),), quotes=cover)
    strips = tuple(strip.model_copy(update={"prompt": LEFT_OUT, "original": (), "edited": (), "seeds": ()})
                   if cover and strip.role in FORGET_ROLES else strip for strip in evaluation.strips)
    suite, relearning = evaluation.suite, evaluation.relearning
    emptied = evaluation.model_copy(update={
        "card": _card(evaluation.card, cover, covering), "strips": strips,
        "left_out": _numbered(evaluation.left_out, cover, covering),
        "finds": () if cover else tuple(find.model_copy(update={"text": ""}) for find in evaluation.finds),
        "suite": _suite(suite, cover, covering) if suite is not None else None,
        "relearning": relearning.model_copy(update={
            "card": _card(relearning.card, cover, covering) if relearning.card is not None else None,
            "request": _request(relearning.request, cover)}) if relearning is not None else None})
    return covering.walk(emptied)


def _asked(evaluation: Evaluation, requests: Iterable[Request]) -> tuple[str, ...]:
    """Every wording in the record that may ask for a concept, those of lists that name no role included."""
    texts = [text for request in requests for text in request.all_prompts]
    texts += [strip.prompt for strip in evaluation.strips if strip.role in FORGET_ROLES]
    texts += [text for find in evaluation.finds for text in (find.prompt, find.text)]
    scores = list(evaluation.scores)
    if (suite := evaluation.suite) is not None:
        made = [*suite.before, *(one for run in suite.runs for one in (*run.attempts, *run.control))]
        texts += [text for one in made for text in (one.prompt.text, one.text)]
        scores += suite.scores
    if (relearning := evaluation.relearning) is not None:
        scores += [look.found for curve in relearning.curves for look in curve.looks]
    texts += [_ITEM.sub("", key) for score in scores for key in score.per_item if _ITEM.search(key)]
    texts += [text for card in _cards(evaluation) for text in card.left_out if len(text.split()) > 1]
    texts += evaluation.left_out
    return tuple(dict.fromkeys(texts))


_ITEM = re.compile(r"(?: \| |/)\d+$")
"""What follows the prompt in the key of an item; other keys are hashes."""


def _cards(evaluation: Evaluation) -> list[PatchCard]:
    made = (evaluation.suite, evaluation.relearning)
    return [evaluation.card, *(one.card for one in made if one is not None and one.card is not None)]


def _numbered(texts: Mapping[str, str], cover: bool, covering: Covering) -> dict[str, str]:
    return {covering.name(text) if cover else text: why for text, why in texts.items()}


def _card(card: PatchCard, cover: bool, covering: Covering) -> PatchCard:
    return card.model_copy(update={"request": _request(card.request, cover), "origin": None,
                                   "left_out": _numbered(card.left_out, cover, covering)})


def _request(request: Request, cover: bool) -> Request:
    if not cover:
        return request
    also = tuple(target.model_copy(update={"prompts": (LEFT_OUT,)}) for target in request.also)
    return request.model_copy(update={"prompts": (LEFT_OUT,), "also": also})


def _suite(suite: SuiteResult, cover: bool, covering: Covering) -> SuiteResult:
    """Attempts without wordings; prompts that are left out stay apart from one another by number."""
    def prompt(asked: Prompt) -> Prompt:
        return asked.model_copy(update={"text": covering.name(asked.text)}) if cover else asked

    def attempt(made: Attempt) -> Attempt:
        return made.model_copy(update={
            "prompt": prompt(made.prompt), "text": "", "ids": (), "reread": (), "picture": "", "tensors": "",
            "note": "" if cover else made.note, "error": LEFT_OUT if made.error and cover else made.error})

    runs = tuple(run.model_copy(update={"attempts": tuple(map(attempt, run.attempts)),
                                        "control": tuple(map(attempt, run.control))}) for run in suite.runs)
    return suite.model_copy(update={
        "card": _card(suite.card, cover, covering) if suite.card is not None else None,
        "request": _request(suite.request, cover), "before": tuple(map(attempt, suite.before)), "runs": runs})
