"""What is drawn instead? Gone must mean that something else was positively seen, not that a judge had no name for it.

Every image of the forget side is put into the first class that fits:

    concept     one of the judges sees the concept
    nothing     blank, saturated or smeared where the original's image from the same noise is not, or like none of the
                original's images in the features (noise)
    surrogate   a judge sees what was to take the concept's place
    another     a judge sees another thing that has a name
    same shape  no name, but its edges are those of the original's image from the same noise: perhaps the concept in
                another tone, frame or texture
    ordinary    no name, but it looks like an image of the model's own

`instead/<class>` are their shares of the images that a judge could look at; `something_else/all` is the share to which
the judge gave no name but "something else", or none at all; `damaged/keep` the share of the keep side that is
"nothing". The original's own shares stand beside each, for some models draw what is no image of anything to these
measures: what an edit did is the change. Of several concepts each has its own shares.

Differs: no published measure; classes and thresholds are ours (`realism`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from expunge.metrics.base import Aim, Features, aim_of, featured, shows
from expunge.metrics.clip import SOMETHING_ELSE
from expunge.metrics.integrity import ImageSet
from expunge.metrics.realism import Reference, edge_similarity, ordinary_pictures
from expunge.metrics.rules import Subject
from expunge.metrics.statistics import change_interval, interval_words, rate_interval
from expunge.pixels import chosen, chunks
from expunge.records import FORGET_ROLES, Detection, ImageRecord, Score

Kind = Literal["concept", "nothing", "surrogate", "another", "shape", "ordinary"]
WORDS: dict[Kind, str] = {
    "concept": "the concept itself, by one of the judges", "nothing": "no image of anything (blank, noise, smears)",
    "surrogate": "what was to take its place", "another": "another thing that a judge can name",
    "shape": "no thing with a name, in the shape that the original drew", "ordinary": "an ordinary image, no name"}
SAME_SHAPE = 0.45
"""Correlation of edges from which an edited image has the shape of the original's from the same noise."""
EMPTY = "no image of anything where something else was asked for"
FEWEST = 20
"""Images of the original that it takes to know what its images look like."""


@dataclass(frozen=True)
class Side:
    """One model's images with what the judges said of them, judge by judge."""

    drawn: ImageSet
    said: Sequence[Sequence[Detection]]


def instead_scores(original: Side, edited: Side, aims: Sequence[Aim], surrogates: Mapping[str, str],
                   features: Features) -> list[Score]:
    """instead/<class> and something_else/all of the forget side, damaged/keep of the keep side; the original's too.

    Of several concepts also instead/<class>/<concept> and something_else/all/<concept>. With the paired changes of
    "nothing" and of damaged/keep.

    Args:
        original, edited: the same items in the same order.
        surrogates: what takes the place of each concept; "" or missing: nothing in particular.
        features: decide what an ordinary image is, by the original's images of the keep side. With fewer than
            `FEWEST` of these there is no instead/<class> and no damaged/keep.
    """
    shots = edited.drawn.shots
    keep = [i for i, shot in enumerate(shots) if shot.prompt.role in ("near", "far", "style")]
    forget = [i for i, shot in enumerate(shots) if shot.prompt.role in FORGET_ROLES]
    parts = {"": forget} | ({f"/{aim.concept}": [i for i in forget if aim_of(shots[i].prompt, aims) == aim]
                             for aim in aims} if len(aims) > 1 else {})
    sides: tuple[tuple[Subject, Side], ...] = (("edited", edited), ("original", original))
    scores = [_share(f"something_else/all{ending}", _title("the judge has no name for it", ending),
                     {i: _unnamed(shots[i], side.said[0][i], aims) for i in rows if not side.said[0][i].error},
                     len(rows), side.drawn.shots, subject, "; an abstention counts as no name")
              for subject, side in sides for ending, rows in parts.items()]
    if len(keep) < FEWEST:
        why = f"not measured: {len(keep)} images of other things by the original, {FEWEST} are needed"
        missing = {f"instead/{kind}{ending}": _title(f"drawn instead: {words}", ending) for ending in parts
                   for kind, words in WORDS.items()}
        return scores + [Score(name=name, title=title, value=None, note=why)
                         for name, title in {**missing, "damaged/keep": EMPTY}.items()]
    reference = Reference.of(featured(features, chosen(original.drawn.pictures, keep)))
    empty = {subject: _nothing(side, original, reference, features) for subject, side in sides}
    both = zip(chunks(edited.drawn.pictures), chunks(original.drawn.pictures), strict=True)
    same = torch.cat([edge_similarity(x, y) >= SAME_SHAPE for x, y in both])
    kinds = {subject: {i: _kind(side, i, aims, surrogates, bool(empty[subject][i]),
                                subject == "edited" and bool(same[i])) for i in forget
                       if any(not said[i].error for said in side.said)} for subject, side in sides}
    hits = {(f"instead/{kind}{ending}", _title(f"drawn instead: {words}", ending)):
            (rows, {side: {i: kinds[side][i] == kind for i in rows if i in kinds[side]} for side, _ in sides})
            for ending, rows in parts.items() for kind, words in WORDS.items()}
    hits["damaged/keep", EMPTY] = keep, {subject: {i: bool(empty[subject][i]) for i in keep} for subject, _ in sides}
    for (name, title), (rows, of) in hits.items():
        scores += [_share(name, title, of[subject], len(rows), side.drawn.shots, subject, f"; {features.name}")
                   for subject, side in sides]
        if name.startswith(("instead/nothing", "damaged")):
            scores.append(_change(name, title, of["edited"], of["original"], shots))
    return scores


def _nothing(side: Side, original: Side, reference: Reference, features: Features) -> Tensor:
    """(N,) bool: no image of anything."""
    rows, done, out = featured(features, side.drawn.pictures), 0, []
    for pictures, partners in zip(chunks(side.drawn.pictures), chunks(original.drawn.pictures), strict=True):
        out.append(~ordinary_pictures(reference, pictures, rows[done:done + len(pictures)], partners))
        done += len(pictures)
    return torch.cat(out)


def _kind(side: Side, row: int, aims: Sequence[Aim], surrogates: Mapping[str, str], empty: bool, same: bool) -> Kind:
    aim = aim_of(side.drawn.shots[row].prompt, aims)
    answers = [said[row].answers for said in side.said if not said[row].error]
    named = [name for answered in answers if (name := answered.get(aim.question, "")) and name != SOMETHING_ELSE]
    if any(shows(answered, aim) for answered in answers):
        return "concept"
    if empty:
        return "nothing"
    if named:
        return "surrogate" if surrogates.get(aim.concept) in named else "another"
    return "shape" if same else "ordinary"


def _unnamed(shot: ImageRecord, item: Detection, aims: Sequence[Aim]) -> bool:
    return item.answers.get(aim_of(shot.prompt, aims).question, SOMETHING_ELSE) == SOMETHING_ELSE


def _share(name: str, title: str, hits: Mapping[int, bool], asked: int, shots: Sequence[ImageRecord], subject: Subject,
           more: str) -> Score:
    """The share of the images that a judge could look at, of those `asked`; `more` is said of the denominator."""
    groups: dict[str, list[float]] = {}
    for row, hit in hits.items():
        groups.setdefault(shots[row].prompt.text, []).append(float(hit))
    n, count = len(hits), sum(hits.values())
    low, high = rate_interval(groups)
    side = "prompts to keep" if name.startswith("damaged") else "prompts that ask for the concept"
    return Score(name=name if subject == "edited" else f"original/{name}", title=title, value=count / n if n else None,
                 low=low, high=high, interval=interval_words(groups), n=n, prompts=len(groups),
                 numerator=count if n else None,
                 denominator=f"images of {side}{more}",
                 left_out={"detector failed": asked - n} if n < asked else {}, subject=subject,
                 per_item={shots[row].key: float(hit) for row, hit in hits.items()},
                 note="" if n else "not measured: no image could be judged" if asked else
                 "not measured: nothing was asked")


def _change(name: str, title: str, after: Mapping[int, bool], before: Mapping[int, bool], shots: Sequence[ImageRecord]
            ) -> Score:
    """change/<name>: the edited model's share minus the original's, image by image."""
    groups: dict[str, list[float]] = {}
    both = [row for row in after if row in before]
    for row in both:
        groups.setdefault(shots[row].prompt.text, []).append(float(after[row]) - float(before[row]))
    estimate, lost = change_interval(groups), len(after.keys() | before.keys()) - len(both)
    return Score(name=f"change/{name}", title=f"change: {title}", value=estimate.value, low=estimate.low,
                 high=estimate.high, n=len(both), prompts=len(groups), subject="comparison",
                 higher_is_better=False, left_out={"detector failed on one side": lost} if lost else {},
                 interval=interval_words(groups, "Agresti-Min"), of="pairs of images",
                 denominator="same prompt, same seed", note="" if both else
                 "not measured: no pair of images could be judged" if lost else "not measured: nothing was asked")


def _title(words: str, ending: str) -> str:
    return f"{words} ({ending[1:]})" if ending else words
