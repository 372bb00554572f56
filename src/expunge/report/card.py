"""The report as a Hugging Face model card (README.md) and as JSON.

The card's front matter follows the Hub's schema: `model-index` holds the leading scores, where they were measured, the
tables hold all of them. Everything that comes from a record is escaped, so that a concept or a note cannot write
Markdown or HTML.

Source: Hugging Face Hub documentation, "Model Cards" (metadata specification). Differs: no `license` is
set; a patch is derived from its base model, whose licence decides.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from expunge import files
from expunge.records import HUB_NAME, Evaluation, Relearning, Score, SuiteResult
from expunge.report.about import NOBODY, About, first_facts
from expunge.report.attacks import attack_rows, attack_sentence, attacker_words
from expunge.report.relearning import relearning_heads, relearning_rows, relearning_sentence
from expunge.report.sensitive import WITHOUT
from expunge.report.tables import evaluation_facts, flat, hashes, patch_facts, score_sections, versions
from expunge.report.verdict import attacked, verdict
from expunge.report.ways import ways
from expunge.report.words import all_scores, family, finite, model_name, quoted, value_of
from expunge.untrusted import in_markdown

_TYPES = {"found": "concept_found_rate", "retained": "retained_rate", "abstained": "abstention_rate",
          "attack": "attack_success_rate", "perceptual": "perceptual_distance", "clip": "clip_score"}
"""The Hub's metric type by family, where it is not the family's own name."""
LEADING = ("attack/worst", "found/all", "second/found/all", "instead/nothing", "retained/near", "retained/far",
           "integrity_median/near", "fid/original", "kid/original", "clip/forget", "clip/keep")
"""The scores that the front matter names: the Hub shows them in a list beside the card, which is to be read."""

_COLUMNS = ("Score", "Model", "Value", "95% interval", "Count", "Left out", "Interval by", "Note")
_ATTACK_COLUMNS = ("Attack", "What it may do", "Attack success rate (ASR)", "95% interval", "Again on fresh seeds",
                   "Second detector agrees", "Null control", "Budget per item")
_WHAT = ("A patch for a text-to-image diffusion model: a safetensors file that holds only the changed "
         "tensors, and a JSON card. It is made for one base model, named by its hash below.")
_LICENCE = ("A patch is derived from its base model, so the base model's licence applies. Add `license:` to "
            "the front matter before you publish.")


def model_card(evaluation: Evaluation, about: About = NOBODY, *, matter: Mapping[str, Any] | None = None,
               what: str = "", use: str = "", licence: str = "") -> str:
    """README.md for a Hub repository that holds the edit: YAML front matter, verdict, tables, limits.

    It is made to be published, so it never says who asked for the edit.

    Args:
        matter: more keys of the front matter, or others.
        what: what the repository holds, where that is not the patch; use: a line that opens it; licence: in words.
    """
    import yaml

    front = yaml.safe_dump({**_front_matter(evaluation, about), **(matter or {})}, sort_keys=False,
                           allow_unicode=True, width=110)
    return f"---\n{front}---\n\n{_body(evaluation, about, what or _WHAT, use, licence or _LICENCE)}"


def write_card(evaluation: Evaluation, out: Path, about: About = NOBODY) -> Path:
    """Write the model card to `out`, atomically. Raises StorageError if that fails."""
    files.write_text(out, model_card(evaluation, about))
    return out


def write_json(evaluation: Evaluation, out: Path, about: About = NOBODY) -> Path:
    """Write verdict and record to `out`, atomically. Raises StorageError if that fails."""
    files.write_json(out, record(evaluation, about))
    return out


def record(evaluation: Evaluation, about: About = NOBODY) -> dict[str, Any]:
    """What report.json holds: verdict and evaluation; numbers that are not finite become null."""
    return {"format": 1, "verdict": dataclasses.asdict(verdict(evaluation)),
            "digest": about.digest or evaluation.digest, "by": about.by, "redacted": about.redacted,
            "evaluation": json.loads(evaluation.model_dump_json())}


def _front_matter(evaluation: Evaluation, about: About) -> dict[str, Any]:
    card = evaluation.card
    matter: dict[str, Any] = {"library_name": "diffusers", "pipeline_tag": "text-to-image"}
    if HUB_NAME.fullmatch(card.base):  # neither the embedded model nor a folder: the Hub refuses those names
        matter["base_model"] = card.base
    matter["tags"] = ["expunge", "text-to-image", "machine-unlearning", "concept-erasure", card.method]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join((card.method, *card.request.concepts))).strip("-.") or "patch"
    metrics = [_metric(score) for score in all_scores(evaluation) if _of_note(score)]
    if metrics:
        dataset = {"type": "expunge-evaluation", "name": f"expunge evaluation {about.digest or evaluation.digest}"}
        task = {"type": "text-to-image", "name": "Text-to-Image"}
        matter["model-index"] = [{"name": name, "results": [
            {"task": task, "dataset": dataset, "metrics": metrics}]}]
    return matter


def _of_note(score: Score) -> bool:
    """Whether the front matter names the score: the few that lead the report; the tables hold all."""
    leads = score.name in LEADING or score.name.startswith("found/all/")
    return leads and score.subject != "original" and value_of(score) is not None


def _metric(score: Score) -> dict[str, Any]:
    args = {key: value for key, value in (("score", score.name), ("subject", score.subject),
                                          ("low", finite(score.low)), ("high", finite(score.high)),
                                          ("interval", score.interval), ("n", score.n))
            if value not in (None, "")}
    return {"type": _TYPES.get(family(score.name), family(score.name)), "name": score.title or score.name,
            "value": value_of(score), "args": args}


def _body(evaluation: Evaluation, about: About, what: str, use: str, licence: str) -> str:
    card, said = evaluation.card, verdict(evaluation)
    concepts, model, method = map(in_markdown, (
        quoted(card.request.concepts), model_name(evaluation.model), card.method))
    parts = [f"# Unlearning {concepts} from {model} with {method}",
             f"**{in_markdown(said.headline)}.** {in_markdown(said.sentence)}",
             *([in_markdown(said.asked)] if said.asked else []), *([in_markdown(said.instead)] if said.instead else []),
             in_markdown(said.cost)]
    parts += [in_markdown(WITHOUT)] * about.redacted
    parts.append(_table(("What", "Value"), list(first_facts(evaluation, about).items())))
    heads, rows_by_way = ways(evaluation)
    if rows_by_way:
        parts += ["## By way of asking", _table(("Asked by", *heads), [(way.words, *way.cells) for way in rows_by_way])]
    if evaluation.warnings:
        parts += ["## Warnings about the evaluation", _bullets(evaluation.warnings)]
    if evaluation.suite is not None:
        parts += ["## Attacks", *_attacks(evaluation.suite)]
    if evaluation.relearning is not None:
        parts += ["## How fast it is learned again", *_relearning(evaluation.relearning)]
    parts += ["## What this is", what, *([f"```\n{use}\n```"] if use else []), "## Scores"]
    for section in score_sections(evaluation):
        rows: list[tuple[str, ...]] = [
            (row.title, row.subject, row.value, row.interval, row.count, row.left_out, row.how, row.note)
            for row in section.rows]
        parts.append(f"### {section.title}")
        if rows:
            parts.append(_table(_COLUMNS, rows))
        if section.absent:
            parts.append(f"Not measured, no such score in the evaluation: {', '.join(section.absent)}.")
    for title, facts in (("Training", patch_facts(card, origin=False)), ("Settings of the method", flat(card.settings)),
                         ("Evaluation", evaluation_facts(evaluation)),
                         ("Settings of the evaluation", flat(evaluation.settings)),
                         ("Hashes", hashes(evaluation, about.digest)), ("Detectors", evaluation.detectors)):
        if facts:
            parts += [f"## {title}", _table(("What", "Value"), list(facts.items()))]
    if packages := versions(evaluation):
        parts += ["## Versions", _table(("Package", "In training", "In evaluation"), packages)]
    parts += ["## Limits", _limits(evaluation), "## Licence", licence]
    return "\n\n".join(parts) + "\n"


def _attacks(suite: SuiteResult) -> list[str]:
    rows = [(row.name, row.access, row.elicited, row.interval, row.fresh, row.second,
             f"{row.control} ({row.control_of})" if row.control_of else row.control, row.budget)
            for row in attack_rows(suite)]
    parts = [in_markdown(attack_sentence(suite)), _table(_ATTACK_COLUMNS, rows), *attacker_words(suite)]
    return [*parts, *(["### Warnings about the attacks", _bullets(suite.warnings)] if suite.warnings else [])]


def _relearning(made: Relearning) -> list[str]:
    rows = [(str(row.steps), *row.found) for row in relearning_rows(made)]
    heads = ("Steps of fine-tuning", *map(in_markdown, relearning_heads(made)))
    warnings = [_bullets(made.warnings)] if made.warnings else []
    return [in_markdown(relearning_sentence(made)), _table(heads, rows), *warnings]


def _limits(evaluation: Evaluation) -> str:
    limits = list(evaluation.not_tested)
    if not attacked(evaluation) and not any("attack" in sentence.lower() for sentence in limits):
        limits.append("No attack was run: optimised prompts, embeddings or fine-tuning may bring it back.")
    limits.append("The scores hold for these prompts, seeds, sampler and detectors, and for nothing else.")
    return _bullets(limits)


def _bullets(sentences: tuple[str, ...] | list[str]) -> str:
    return "\n".join(f"- {in_markdown(sentence)}" for sentence in sentences)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *(tuple(in_markdown(cell) for cell in row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


