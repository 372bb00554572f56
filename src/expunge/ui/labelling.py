"""Label blind: a random sample of an evaluation's pictures, original and edited mixed, one question, and how far
people and judges agree.

Whoever labels sees a picture and the question, and nothing of the prompt, the method, or the judges' answers. The
sample is drawn by a seed, and stands in `labels.json` beside the evaluation before the first picture is shown; answers
go there as they are given. A person has one answer to a picture, the last that they gave, in whichever sample.

Several pages may work on one folder: each reads the file anew and writes it in its turn, so that none loses another's.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from itertools import combinations
from pathlib import Path
from typing import Any, cast

from expunge import untrusted
from expunge.errors import ConfigError, UserError
from expunge.files import text_digest, write_json
from expunge.locks import in_turn
from expunge.metrics.base import Aim, shows_any
from expunge.metrics.judging import read_judgments
from expunge.metrics.kappa import interval_words, kappa_interval
from expunge.metrics.prompts import Prompts, aims_of
from expunge.models.cache_size import root
from expunge.records import EVALUATIONS, Evaluation, ImageRecord, with_article
from expunge.records.labels import Agreement, Answer, Label, Labelling, Labels
from expunge.records.stored import LABELS
from expunge.report.sensitive import sensitive
from expunge.ui.asked import Said, Sample
from expunge.ui.served import Served
from expunge.ui.shown import Shown

JUDGMENTS = ("judgments.jsonl", "judgments-second.jsonl")
PNG = b"\x89PNG\r\n\x1a\n"
"""How a PNG file begins."""
SIDES = ("all", "original", "edited")
LABELS_LOCK = ".labels.lock"
"""A lock of their own: whoever labels does not stop a run that writes into the evaluation, nor the other way round."""


def begin(served: Served, shown: Shown, asked: Sample) -> dict[str, Any]:
    """The sheet of a sample: the pictures in their order, the answers so far; made, and written down, where there is
    none.

    Raises:
        UserError: no such evaluation, its pictures are not in the cache any more, or another page holds the labels.
        StorageError: the sample cannot be written.
    """
    folder = served.run(asked.run, "evaluation").folder
    prompts = served.world.prompts  # a model that is loaded for it keeps nobody waiting
    labels = _labels(folder, EVALUATIONS.read(folder))
    mine = _of(labels, asked)
    if mine is None:
        with in_turn(folder, LABELS_LOCK):
            labels, mine = _sheet(folder, asked, prompts)
    return {"run": asked.run, "question": mine.question, "person": mine.person, "seed": mine.seed,
            "count": mine.count, "answers": [label.answer for label in mine.labels],
            "pictures": [_picture(shown, label) for label in mine.labels], "summary": summary(labels, mine),
            "veiled": sensitive(EVALUATIONS.read(folder).card.request)}


def answer(served: Served, asked: Said) -> dict[str, Any]:
    """Keep one answer; the agreement is worked out anew.

    Raises:
        UserError: a picture that is not in the sample, or another page holds the labels.
    """
    folder = served.run(asked.run, "evaluation").folder
    prompts = served.world.prompts
    with in_turn(folder, LABELS_LOCK):
        labels, mine = _sheet(folder, asked, prompts)
        if asked.place >= len(mine.labels):
            raise UserError(f"image {asked.place + 1}", accepted=f"1 to {len(mine.labels)}")
        shot, said = mine.labels[asked.place].shot, cast(Answer, asked.answer)
        people = [_answered(one, shot, said) if one.person == mine.person else one for one in labels.people]
        labels = labels.model_copy(update={"people": tuple(people), "agreement": tuple(agreements(people))})
        _write(folder, labels)
    mine = next(one for one in people if _same(one, asked))
    return {"answers": [label.answer for label in mine.labels], "summary": summary(labels, mine)}


def _answered(one: Labelling, shot: str, said: Answer) -> Labelling:
    """The same with this answer to a picture, if it is in the sample."""
    return one.model_copy(update={"labels": tuple(
        label.model_copy(update={"answer": said}) if label.shot == shot else label for label in one.labels)})


def summary(labels: Labels, mine: Labelling) -> dict[str, Any]:
    """What to show once all pictures are labelled; before that how many are, and nothing that could sway anybody."""
    if mine.answered < len(mine.labels):
        return {"answered": mine.answered, "of": len(mine.labels), "agreement": []}
    own = person(mine)
    return {"answered": mine.answered, "of": len(mine.labels), "people": len({one.person for one in labels.people}),
            "agreement": [one.model_dump(mode="json") for one in labels.agreement if own in (one.one, one.other)]}


def person(mine: Labelling) -> str:
    """What an agreement calls somebody."""
    return f"person: {mine.person}"


def _sheet(folder: Path, asked: Sample, asks: Prompts) -> tuple[Labels, Labelling]:
    """All labels of an evaluation, and the labelling among them that is asked for; a new one is written down at once,
    so that a page that is opened again goes on with the same pictures."""
    evaluation = EVALUATIONS.read(folder)
    labels = _labels(folder, evaluation)
    mine = _of(labels, asked)
    if mine is None:
        mine = _sampled(folder, evaluation, asked, asks)
        labels = labels.model_copy(update={"people": (*labels.people, mine)})
        _write(folder, labels)
    return labels, mine


def _labels(folder: Path, evaluation: Evaluation) -> Labels:
    """All labels of an evaluation."""
    labels = LABELS.read(folder) if LABELS.at(folder) else Labels(
        concept=", ".join(evaluation.card.request.concepts), model_hash=evaluation.model_hash,
        patch_hash=evaluation.card.tensors_hash)
    if labels.patch_hash != evaluation.card.tensors_hash:
        raise ConfigError(f"{folder / LABELS.name} is about another edit", accepted="labels of this evaluation",
                          remedy="move that file away to begin anew")
    return labels


def _of(labels: Labels, asked: Sample) -> Labelling | None:
    """The labelling that is asked for, where there is one."""
    return next((one for one in labels.people if _same(one, asked)), None)


def _write(folder: Path, labels: Labels) -> None:
    write_json(folder / LABELS.name, labels.model_dump(mode="json"))


def _same(one: Labelling, asked: Sample) -> bool:
    """Whether a labelling is of the person and the sample that are asked for."""
    return (one.person, one.seed, one.count) == (asked.person.strip(), asked.seed, asked.count)


def _sampled(folder: Path, evaluation: Evaluation, asked: Sample, asks: Prompts) -> Labelling:
    """A new sample: half of the original's pictures and half of the edited model's, shuffled."""
    concepts = evaluation.card.request.concepts
    aims = aims_of(asks, evaluation.card.request)
    seen: dict[str, dict[str, bool | None]] = {}
    shots: dict[str, ImageRecord] = {}
    for shot, by, there in _judged(folder, aims):
        shots[shot.key] = shot
        seen.setdefault(shot.key, {})[by] = there
    drawn = [shot for shot in shots.values() if cached(shot.file) is not None]
    draw = random.Random(f"{asked.seed}/{text_digest(evaluation.card.tensors_hash)}")  # a generator of its own
    sides = [sorted((shot for shot in drawn if bool(shot.patch) is edited), key=lambda shot: shot.key)
             for edited in (False, True)]
    chosen = [shot for side, most in zip(sides, (asked.count // 2, asked.count - asked.count // 2), strict=True)
              for shot in draw.sample(side, min(most, len(side)))]
    if not chosen:
        raise UserError("none of this evaluation's images is in the cache any more", accepted="an evaluation whose "
                        "images are there", remedy="evaluate again: what was judged is not judged anew")
    draw.shuffle(chosen)
    named = " or ".join(with_article(name) if target.kind == "object" else name
                        for name, target in zip(concepts, evaluation.card.request.targets, strict=True))
    return Labelling(person=asked.person.strip(), question=f"Is there {named} in this image?", seed=asked.seed,
                     count=asked.count, created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
                     labels=tuple(Label(shot=shot.key, file=shot.file, edited=bool(shot.patch), seed=shot.seed,
                                        prompt=shot.prompt.text, judges=seen[shot.key]) for shot in chosen))


def _judged(folder: Path, aims: Sequence[Aim]) -> Iterator[tuple[ImageRecord, str, bool | None]]:
    """Every picture with who judged it and whether that judge sees the concept."""
    for name in JUDGMENTS:
        for shot, said in read_judgments(folder / name):
            yield shot, said.detector, None if said.error else shows_any(said.answers, aims)


def agreements(people: Sequence[Labelling]) -> Iterator[Agreement]:
    """Every person with every judge, on all pictures and on each model's; and every two people on one sample. A picture
    that stands in several samples of one person counts once; who has begun and answered nothing is in none."""
    people = [one for one in people if one.answered]
    by_person: dict[str, dict[str, Label]] = {}
    for one in people:
        said = by_person.setdefault(person(one), {})
        said.update({label.shot: label for label in one.labels if label.answer})
    for who, every in by_person.items():
        for judge in dict.fromkeys(name for label in every.values() for name in label.judges):
            for side in SIDES:
                mine = [label for label in every.values() if side == "all" or label.edited == (side == "edited")]
                yield _agreement(who, judge, side, [(label.prompt, _own(label), label.judges.get(judge))
                                                    for label in mine])
    for one, other in combinations(people, 2):
        if (one.seed, one.count) == (other.seed, other.count) and one.person != other.person:
            theirs = {label.shot: label for label in other.labels if label.answer}
            yield _agreement(person(one), person(other), "all", [
                (label.prompt, _own(label), _own(theirs[label.shot])) for label in one.labels
                if label.answer and label.shot in theirs])


def _own(label: Label) -> bool | None:
    return {"yes": True, "no": False}.get(label.answer)


def _agreement(one: str, other: str, side: str, answers: Sequence[tuple[str, bool | None, bool | None]]) -> Agreement:
    """Of what was answered at all: (prompt, one's answer, the other's); None is left out and counted."""
    pairs: dict[str, list[tuple[bool, bool]]] = {}
    for prompt, mine, theirs in answers:
        if mine is not None and theirs is not None:
            pairs.setdefault(prompt, []).append((mine, theirs))
    n = sum(map(len, pairs.values()))
    agreed = sum(a == b for its in pairs.values() for a, b in its) / n if n else None
    kappa = kappa_interval(pairs)
    return Agreement(one=one, other=other, side=side, n=n, left_out=len(answers) - n, agreed=agreed, kappa=kappa.value,
                     low=kappa.low, high=kappa.high, interval=interval_words() if kappa.low is not None else "")


def _picture(shown: Shown, label: Label) -> str:
    """The digest of a picture's bytes, which says nothing of where it comes from; "" if it is gone."""
    file = cached(label.file)
    return shown.add_png(untrusted.content(file)) if file is not None else ""


def cached(name: str) -> Path | None:
    """The PNG of that name in the image cache; None if there is none. Records that others wrote may name any path."""
    here = root().resolve()
    file = (here / name).resolve()
    if not name or file.suffix != ".png" or not file.is_relative_to(here) or not file.is_file():
        return None
    with file.open("rb") as stream:
        return file if stream.read(len(PNG)) == PNG else None
