"""Ask a judge about images and keep what it said. A judge that fails is a failure in the record, never an answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from expunge import interrupts
from expunge.errors import ExpungeError, UserError
from expunge.files import append_lines, read_lines, write_text
from expunge.metrics.base import Judge
from expunge.metrics.erasure import Judged
from expunge.metrics.integrity import ImageSet
from expunge.pixels import Pictures, chunk_of
from expunge.records import Detection, ImageRecord, Prompt
from expunge.runtime import Runtime
from expunge.sealed import DamagedLine, mend_lines, sealed_line, unsealed_line


def check_questions(judge: Judge, concept: str, question: str, prompts: Iterable[Prompt]) -> None:
    """Make sure that the judge could answer at all: a label that it lacks would pass for an erased one.

    Raises:
        UserError: it does not know the question, the concept, or a label that a prompt asks for.
    """
    wanted = {(question, concept)} | {item for prompt in prompts for item in prompt.labels.items()}
    unknown = sorted((q, label) for q, label in wanted if label not in judge.questions.get(q, ()))
    if unknown:
        known = {q: len(labels) for q, labels in judge.questions.items()}
        raise UserError(f"the judge {judge.name} cannot answer with {', '.join(f'{q}={x!r}' for q, x in unknown[:8])}",
                        accepted=f"labels of its questions {known}",
                        remedy="choose another concept, or another judge")


def judgments(judge: Judge, shots: Sequence[ImageRecord], pictures: Pictures, *, known: Judged = (), chunk: int = 128,
              keep: Callable[[Judged], None] | None = None, processes: Runtime | None = None) -> list[Detection]:
    """What the judge says of each image, in the order of `shots`.

    Of several processes each asks about its share of the chunks, and all get every answer; call it in all of them.

    Args:
        judge: the detector.
        shots: the images' records.
        pictures: float32 (B, 3, H, W) in [0, 1], in memory or on disk.
        known: earlier judgments with their images' records; those of the same pixels by the same judge are reused,
            unless it had failed.
        chunk: images of 64 x 64 at a time, fewer of larger ones.
        keep: called after each of this process's chunks with its records and judgments that are no failures, to be
            stored.
        processes: None means that this one asks alone.
    """
    if len(shots) != len(pictures):
        raise ExpungeError(f"{len(shots)} records for {len(pictures)} images", accepted="one record per image")
    before = {(shot.key, shot.pixels): item for shot, item in known
              if item.detector == judge.name and not item.error}
    found = [before.get((shot.key, shot.pixels)) for shot in shots]
    missing = [i for i, item in enumerate(found) if item is None]
    chunk = chunk_of(pictures, chunk)
    chunks = [missing[start:start + chunk] for start in range(0, len(missing), chunk)]
    shared = processes is not None and processes.count > 1
    mine: dict[int, list[Any]] = {}
    for number in processes.shard(range(len(chunks))) if processes is not None else range(len(chunks)):
        rows = chunks[number]
        for i, answer in zip(rows, ask(judge, pictures[rows]), strict=True):
            found[i] = answer.model_copy(update={"shot": shots[i].key, "detector": judge.name})
        told = [item for i in rows if (item := found[i]) is not None]
        mine[number] = [item.model_dump(mode="json") for item in told] if shared else []
        if keep is not None:
            keep([(shots[i], item) for i, item in zip(rows, told, strict=True) if not item.error])
    if processes is not None and shared:
        for rows, answers in zip(chunks, processes.gather(mine), strict=True):
            for i, answer in zip(rows, answers, strict=True):
                found[i] = Detection.model_validate(answer)
    return [item for item in found if item is not None]


def judged(sides: Sequence[ImageSet], judge: Judge, file: Path | None = None,
           tell: Callable[[int, int], None] | None = None, processes: Runtime | None = None) -> list[list[Detection]]:
    """Judgments of each side's images, kept in one JSONL file as they come, so that none is asked for twice;
    those that are damaged are.

    Of several processes, all of which call it, the first one keeps the file: its own judgments as they come, those of
    the others at the end.

    Args:
        sides: images with their records.
        file: where judgments are kept; None keeps none.
        tell: told (images judged, images in all).
        processes: None means that this one asks alone.

    Raises:
        UserError: the file is damaged, or something else.
    """
    mine = file if processes is None or processes.main else None
    if mine:
        mend_lines(mine)
    known = _the_same(read_judgments(mine) if mine else [], processes)
    total = sum(len(side.shots) for side in sides)
    out: list[list[Detection]] = []
    done: list[tuple[ImageRecord, Detection]] = []

    def keep(items: Judged) -> None:
        if mine:
            append_lines(mine, _lines(items))

    for side in sides:
        out.append(judgments(judge, side.shots, side.pictures, known=known, keep=keep, processes=processes))
        done += zip(side.shots, out[-1], strict=True)
        if tell:
            tell(len(done), total)
    if mine:
        write_judgments(mine, done)
    return out


def _the_same(known: Sequence[tuple[ImageRecord, Detection]], processes: Runtime | None
              ) -> Sequence[tuple[ImageRecord, Detection]]:
    """What the first process knows, on all of them: each must leave out the same images."""
    if processes is None or processes.count == 1:
        return known
    told = [[shot.model_dump(mode="json"), item.model_dump(mode="json")] for shot, item in known]
    (every,) = processes.gather({0: told} if processes.main else {})
    return [(ImageRecord.model_validate(shot), Detection.model_validate(item)) for shot, item in every]


def read_judgments(path: Path) -> list[tuple[ImageRecord, Detection]]:
    """Images' records and their judgments from a JSONL file; none if there is no such file.

    Raises:
        UserError: a line is damaged, or something else.
    """
    if not path.exists():
        return []
    out = []
    for number, line in enumerate(read_lines(path), 1):
        try:
            value = unsealed_line(line)
            of, by = value["judgment"]["shot"], value["judgment"]["detector"]
            out.append((ImageRecord.model_validate(value["shot"]),
                        Detection.model_validate({**value["judgment"], "shot": of, "detector": by})))
        except DamagedLine as error:
            raise UserError(f"{path}, line {number}, is damaged: {error}", accepted="lines as they were written",
                            remedy="run `expunge evaluate` again: that image is judged again") from error
        except (ValueError, KeyError, TypeError) as error:  # a ValidationError is a ValueError
            raise UserError(f"{path}, line {number}: not an image's record with a judgment",
                            accepted="lines as `expunge evaluate` writes them",
                            remedy="delete the file; the images are judged again") from error
    return out


def write_judgments(path: Path, items: Judged) -> None:
    """Write JSONL, atomically: {"shot": ..., "judgment": ..., "seal": ...} per image."""
    write_text(path, "".join(f"{line}\n" for line in _lines(items)))


def _lines(items: Judged) -> list[str]:
    return [sealed_line({"shot": shot.model_dump(mode="json"), "judgment": item.model_dump(mode="json")})
            for shot, item in items]


def ask(judge: Judge, pictures: Tensor) -> list[Detection]:
    """One answer per image (B, 3, H, W); where the judge fails, whatever it raises, one that says so."""
    try:
        answers = judge(pictures)
        if len(answers) == len(pictures):
            return [_checked(judge, answer) for answer in answers]
        reason = f"{len(answers)} answers for {len(pictures)} images"
    except Exception as error:  # a detector may be anybody's; whatever it raises is its failure, not a finding
        interrupts.check()
        reason = f"{type(error).__name__}: {error}"
    if len(pictures) == 1:
        return [Detection(error=reason)]
    return [answer for picture in pictures for answer in ask(judge, picture[None])]  # one bad image spoils itself


def _checked(judge: Judge, answer: Detection) -> Detection:
    if answer.error:
        return Detection(error=answer.error)
    odd = [f"{q}={label!r}" for q, label in answer.answers.items() if label not in judge.questions.get(q, ())]
    odd += [f"confidence in {q} is {p}" for q, p in answer.confidence.items() if not math.isfinite(p)]
    return Detection(error=f"an answer that it does not know: {', '.join(odd)}") if odd else answer
