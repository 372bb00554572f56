"""What is drawn instead? Gone must mean that something else was positively seen, not that a judge had no name for it.

Every picture of the forget side is put into the first class that fits:

    concept     one of the judges sees the concept
    nothing     blank, saturated, smeared, or like none of the original's pictures in the features (noise)
    surrogate   a judge sees what was to take the concept's place
    another     a judge sees another thing that has a name
    same shape  no name, but its edges are those of the original's picture from the same noise: perhaps the concept in
                another tone, frame or texture
    ordinary    no name, but it looks like a picture of the model's own

`instead/<class>` are their shares; `something_else/all` is the share to which the judge gave no name but "something
else"; `damaged/keep` the share of the keep side that is "nothing". The original's own shares stand beside each.

Differs: no published measure; classes and thresholds are ours (`realism`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from expunge.metrics.base import Aim, Features, aim_of, shows
from expunge.metrics.clip import SOMETHING_ELSE
from expunge.metrics.integrity import Drawn
from expunge.metrics.realism import Reference, edge_similarity, ordinary_pictures
from expunge.metrics.statistics import BY_PROMPT, rate_interval
from expunge.records import FORGET_ROLES, Judgment, Score, Shot

Kind = Literal["concept", "nothing", "surrogate", "another", "shape", "ordinary"]
WORDS: dict[Kind, str] = {
    "concept": "the concept itself, by one of the judges", "nothing": "no picture of anything (blank, noise, smears)",
    "surrogate": "what was to take its place", "another": "another thing that a judge can name",
    "shape": "no thing with a name, in the shape that the original drew", "ordinary": "an ordinary picture, no name"}
SAME_SHAPE = 0.45
"""Correlation of edges from which an edited picture has the shape of the original's from the same noise."""
FEWEST = 20
"""Pictures of the original that it takes to know what its pictures look like."""


@dataclass(frozen=True)
class Side:
    """One model's pictures with what the judges said of them, judge by judge."""

    drawn: Drawn
    said: Sequence[Sequence[Judgment]]


def instead_scores(original: Side, edited: Side, aims: Sequence[Aim], surrogates: Mapping[str, str],
                   features: Features) -> list[Score]:
    """instead/<class> and something_else/all of the forget side, damaged/keep of the keep side; the original's too.

    Args:
        original, edited: the same items in the same order.
        surrogates: what takes the place of each concept; "" or missing: nothing in particular.
        features: decide what an ordinary picture is, by the original's pictures of the keep side.
    """
    keep = [i for i, shot in enumerate(original.drawn.shots) if shot.prompt.role in ("near", "far", "style")]
    if len(keep) < FEWEST:
        why = f"not measured: {len(keep)} pictures of other things by the original, {FEWEST} are needed"
        return [Score(name=f"instead/{kind}", title=_title(kind), value=None, note=why) for kind in WORDS]
    reference = Reference.of(features(original.drawn.pictures[keep]))
    empty = {"edited": _nothing(edited, reference, features), "original": _nothing(original, reference, features)}
    shape = edge_similarity(edited.drawn.pictures, original.drawn.pictures)
    scores: list[Score] = []
    for subject, side in (("edited", edited), ("original", original)):
        same = shape >= SAME_SHAPE if subject == "edited" else torch.zeros(len(shape), dtype=torch.bool)
        kinds = {i: _kind(side, i, aims, surrogates, bool(empty[subject][i]), bool(same[i]))
                 for i, shot in enumerate(side.drawn.shots) if shot.prompt.role in FORGET_ROLES}
        shots = side.drawn.shots
        scores += [_share(f"instead/{kind}", _title(kind), {i: k == kind for i, k in kinds.items()}, shots, subject,
                          features.name) for kind in WORDS]
        unnamed = {i: _unnamed(shots[i], side.said[0][i], aims) for i in kinds if not side.said[0][i].error}
        scores.append(_share("something_else/all", "the judge has no name for it", unnamed, shots, subject, ""))
        broken = {i: bool(empty[subject][i]) for i in keep}
        scores.append(_share("damaged/keep", "no picture of anything where something else was asked for", broken, shots,
                             subject, features.name))
    return scores


def _nothing(side: Side, reference: Reference, features: Features) -> Tensor:
    """(N,) bool: no picture of anything."""
    return ~ordinary_pictures(reference, side.drawn.pictures, features(side.drawn.pictures))


def _kind(side: Side, row: int, aims: Sequence[Aim], surrogates: Mapping[str, str], empty: bool, same: bool) -> Kind:
    aim = aim_of(side.drawn.shots[row].prompt, aims)
    answers = [said[row].answers for said in side.said if not said[row].error]
    named = [name for told in answers if (name := told.get(aim.question, "")) and name != SOMETHING_ELSE]
    if any(shows(told, aim) for told in answers):
        return "concept"
    if empty:
        return "nothing"
    if named:
        return "surrogate" if surrogates.get(aim.concept) in named else "another"
    return "shape" if same else "ordinary"


def _unnamed(shot: Shot, item: Judgment, aims: Sequence[Aim]) -> bool:
    return item.answers.get(aim_of(shot.prompt, aims).question, SOMETHING_ELSE) == SOMETHING_ELSE


def _share(name: str, title: str, hits: Mapping[int, bool], shots: Sequence[Shot], subject: str, extractor: str
           ) -> Score:
    groups: dict[str, list[float]] = {}
    for row, hit in hits.items():
        groups.setdefault(shots[row].prompt.text, []).append(float(hit))
    n, count = len(hits), sum(hits.values())
    low, high = rate_interval(groups)
    side = "prompts to keep" if name.startswith("damaged") else "prompts that ask for the concept"
    return Score(name=name if subject == "edited" else f"original/{name}", title=title, value=count / n if n else None,
                 low=low, high=high, interval=BY_PROMPT if n else "", n=n, prompts=len(groups),
                 numerator=count if n else None,
                 denominator=f"pictures of {side}" + (f"; {extractor}" if extractor else ""),
                 subject="edited" if subject == "edited" else "original",
                 per_item={shots[row].key: float(hit) for row, hit in hits.items()},
                 note="" if n else "not measured: nothing was asked")


def _title(kind: Kind) -> str:
    return f"drawn instead: {WORDS[kind]}"
