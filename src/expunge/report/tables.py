"""The report's tables as plain rows of text: every score, and every fact about how it came about."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from expunge.records import Evaluation, PatchCard, Score, SuiteResult
from expunge.report.words import (
    all_scores,
    bare,
    count_text,
    duration,
    family,
    interval_text,
    left_out_text,
    model_name,
    seeds_text,
    value_of,
    value_text,
)

STRATA = {"found": ("direct", "held_out", "paraphrase", "implicit", "all", "never_seen"),
          "instead": ("surrogate", "another", "ordinary", "shape", "nothing"), "something_else": ("all",),
          "retained": ("near", "far", "style"), "damaged": ("keep",), "integrity": ("near", "far", "style", "empty"),
          "perceptual": ("floor", "ceiling"), "fid": ("original", "real"), "kid": ("original", "real"),
          "clip": ("forget", "keep")}
"""Scores that a complete evaluation has; those that a record lacks are named under the tables."""

SECTIONS = (
    ("Is it still drawn?", ("found", "margin", "abstained"),
     "Share of images in which the detector finds the concept. Abstentions never count as success: they "
     "are shown as a rate of their own. Null controls say how often the detector sees what is not there."),
    ("What is drawn instead?", ("instead", "something_else"),
     "Shares of the images that ask for the concept. Each image is in the first class that fits: the concept (by "
     "one of the judges), no image of anything, the surrogate, another thing with a name, the shape of the "
     "original's image, an ordinary image."),
    ("What stayed?", ("not_finite", "drawn", "retained", "damaged", "agreement"),
     "Share of images in which the detector finds what the prompt asked for."),
    ("How far did other images move?", ("integrity", "integrity_median", "sharpness", "perceptual", "ssim"),
     "The same prompt and the same noise, drawn by both models. Integrity is the perceptual difference, "
     "scaled so that 1 is numerical noise (the floor) and 0 is as different as another seed (the ceiling)."),
    ("Image quality and agreement with the text", ("fid", "kid", "precision", "recall", "clip"),
     "FID and KID against the original's images and against real images are different measures: compare "
     "them neither with each other nor across feature extractors."),
    ("What did attacks elicit?", ("attack",),
     "Shares of items: a prompt and a seed for which the detector finds the concept in the original's image."),
)


@dataclass(frozen=True)
class ScoreRow:
    """One score as text. `measured` is False when `value` says why there is none."""

    title: str
    name: str
    subject: str
    value: str
    measured: bool
    interval: str
    count: str
    denominator: str
    left_out: str
    how: str
    seeds: str
    note: str
    direction: str


@dataclass(frozen=True)
class Section:
    """A table of scores with its heading, what it means, and the names of scores that the record lacks."""

    title: str
    text: str
    rows: tuple[ScoreRow, ...]
    absent: tuple[str, ...] = ()


def score_sections(evaluation: Evaluation) -> list[Section]:
    """All scores, grouped by family; the original's score and the change follow the edited model's."""
    sections, known = [], {score.name for score in all_scores(evaluation)}
    placed = {name for _, families, _ in SECTIONS for name in families}
    others = tuple(dict.fromkeys(family(s.name) for s in all_scores(evaluation) if family(s.name) not in placed))
    for title, families, text in (*SECTIONS, ("Other scores", others, "")):
        chosen = [score for score in all_scores(evaluation) if family(score.name) in families]
        absent = tuple(f"{kind}/{stratum}" for kind in families for stratum in STRATA.get(kind, ())
                       if f"{kind}/{stratum}" not in known)
        if chosen or absent:
            sections.append(Section(title, text, tuple(map(score_row, _ordered(chosen, families))), absent))
    return sections


def _ordered(scores: list[Score], families: tuple[str, ...]) -> list[Score]:
    """By family, then as in the record, each edited score with the original's and the change behind it."""
    names = list(dict.fromkeys(bare(score.name) for score in scores))
    subjects = {"original": 1, "change": 2}
    whose = lambda name: (name.startswith("second/"), subjects.get(name.removeprefix("second/").split("/")[0], 0))
    return sorted(scores, key=lambda s: (families.index(family(s.name)), names.index(bare(s.name)), whose(s.name)))


def score_row(score: Score) -> ScoreRow:
    """`score` as text; an unmeasured one keeps its row."""
    measured = value_of(score) is not None
    better = {True: "higher is better", False: "lower is better", None: ""}[score.higher_is_better]
    how = score.interval or "not stated"
    title = f"{score.title[0].upper()}{score.title[1:]}" if score.title else score.name
    return ScoreRow(title, score.name, score.subject, value_text(score), measured,
                    interval_text(score), count_text(score), score.denominator, left_out_text(score),
                    how if interval_text(score) != "none" else "none", seeds_text(score.seeds),
                    score.note if measured else "", better)


def patch_facts(card: PatchCard, origin: bool = True) -> dict[str, str]:
    """How the patch was made: method, every setting, seed, time; words to text. `origin`: also who asked for it."""
    targets = card.request.targets
    anchors = [f"{target.concept} → {target.anchor or 'none'}" for target in targets]
    asked = {"Concept": targets[0].concept, "Anchor": targets[0].anchor or "none"} if len(targets) == 1 else \
        {"Concepts": card.request.title, "Anchors": ", ".join(anchors)}
    facts = {**asked, **(card.origin.facts if card.origin is not None and origin else {}), "Method": card.method,
             "Base model": model_name(card.base),
             "Optimisation steps": str(card.steps), "Training seed": str(card.seed),
             "Training time": duration(card.seconds), "Changed tensors": str(len(card.tensors)),
             "Made": card.created or "not recorded"}
    if card.base_process:
        facts["Prediction and noise schedule"] = card.base_process
    for name, series in card.losses.items():
        if series:
            facts[f"Loss “{name}”, first and last"] = f"{series[0]:.4g} → {series[-1]:.4g}"
    return facts


def evaluation_facts(evaluation: Evaluation) -> dict[str, str]:
    """How images were drawn and on what; words to text."""
    sampler = evaluation.sampler
    sides = (("width", sampler.width), ("height", sampler.height))
    size = ", ".join(f"{name} {side} pixels" for name, side in sides if side) or "the model's own"
    seeds = seeds_text(seed for score in evaluation.scores for seed in score.seeds)
    return {"Denoising steps": str(sampler.steps), "Guidance": f"{sampler.guidance:g}", "Image size": size,
            "Negative prompt": sampler.negative or "none", "Seeds": seeds or "not recorded",
            **({"Family": evaluation.drawn["family"]} if "family" in evaluation.drawn else {}),
            "Time of the evaluation": duration(evaluation.seconds),
            "Machine": evaluation.machine or "not recorded", "Made": evaluation.created or "not recorded"}


def suite_facts(suite: SuiteResult) -> dict[str, str]:
    """On what, with what and how long the attacks were made; words to text."""
    sampler, attempts = suite.sampler, [item for run in suite.runs for item in run.attempts]
    spent = [(sum(getattr(item.spent, name) for item in attempts), words) for name, words in
             (("gradient_steps", "gradient steps"), ("images", "images"), ("network_rows", "NFE"))]
    tried = {item.item_key for item in attempts}
    return {"Judge": suite.judge, "Second detector": suite.second or "none",
            "Items looked at without an attack": str(len(suite.before)), "Items attacked": str(len(tried)),
            "Attempts": f"{len(attempts):,}",
            "Spent by all attempts": ", ".join(f"{count:,} {words}" for count, words in spent),
            "Denoising steps": str(sampler.steps), "Guidance": f"{sampler.guidance:g}",
            "Model": suite.model_hash, "Patch": suite.patch_hash or "none", "Record": suite.digest,
            "Time of the attacks": duration(suite.seconds), "Machine": suite.machine or "not recorded",
            "Made": suite.created or "not recorded"}


def hashes(evaluation: Evaluation, digest: str = "") -> dict[str, str]:
    """What identifies models, patch and records; words to text. `digest`: of the whole record, where this is a part."""
    card = evaluation.card
    record = digest or evaluation.digest
    facts = {f"Base model ({model_name(evaluation.model)})": evaluation.model_hash, "Patch tensors": card.tensors_hash,
             "Patch card": card.digest, "Evaluation record": record}
    if card.base_hash != evaluation.model_hash:
        facts[f"Base model that the patch was made for ({model_name(card.base)})"] = card.base_hash
    return facts


def versions(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    """(package, version in training, version in evaluation)."""
    then, now = evaluation.card.versions, evaluation.versions
    return [(name, then.get(name, "not recorded"), now.get(name, "not recorded"))
            for name in dict.fromkeys([*then, *now])]


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted names to text: {"objective": {"eta": 1.0}} -> {"objective.eta": "1.0"}."""
    out: dict[str, str] = {}
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            out.update(flat(value, f"{name}."))
        else:
            plain = isinstance(value, str) and value
            out[name] = value if plain else json.dumps(value, ensure_ascii=False, default=str)
    return out
