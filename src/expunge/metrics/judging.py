"""Ask a judge about pictures and keep what it said. A judge that fails is a failure in the record, never an answer."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from pydantic import ValidationError
from torch import Tensor

from expunge.errors import ExpungeError, UserError
from expunge.files import write_text
from expunge.metrics.base import Answer, Judge
from expunge.records import Judgment, Prompt, Shot


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


def judgments(judge: Judge, shots: Sequence[Shot], pictures: Tensor, *, known: Sequence[Judgment] = (),
              chunk: int = 128, keep: Callable[[list[Judgment]], None] | None = None) -> list[Judgment]:
    """What the judge says of each picture, in the order of `shots`.

    Args:
        judge: the detector.
        shots: the pictures' records.
        pictures: float32 (B, 3, H, W) in [0, 1].
        known: earlier judgments; those by this judge that did not fail are reused.
        chunk: pictures at a time.
        keep: called after each chunk with all judgments that do not come from a failure, to be stored.
    """
    if len(shots) != len(pictures):
        raise ExpungeError(f"{len(shots)} records for {len(pictures)} pictures", accepted="one record per picture")
    found = {item.shot: item for item in known if item.detector == judge.name and not item.error}
    keys = [shot.key for shot in shots]
    missing = [i for i, key in enumerate(keys) if key not in found]
    failed: dict[str, Judgment] = {}
    for start in range(0, len(missing), chunk):
        rows = missing[start:start + chunk]
        for i, answer in zip(rows, _ask(judge, pictures[rows]), strict=True):
            item = Judgment(shot=keys[i], detector=judge.name, answers=dict(answer.labels),
                            confidence=dict(answer.confidence), error=answer.error)
            (failed if item.error else found)[keys[i]] = item
        if keep is not None:
            keep(list(found.values()))
    return [found[key] if key in found else failed[key] for key in keys]


def read_judgments(path: Path) -> list[Judgment]:
    """Judgments from a JSONL file; none if there is no such file.

    Raises:
        UserError: a line is not a judgment.
    """
    if not path.exists():
        return []
    out = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            out.append(Judgment.model_validate_json(line))
        except ValidationError as error:
            raise UserError(f"{path}, line {number}: not a judgment", accepted="lines as `expunge evaluate` writes them",
                            remedy="delete the file; the pictures are judged again") from error
    return out


def write_judgments(path: Path, items: Iterable[Judgment]) -> None:
    """Write judgments as JSONL, atomically."""
    write_text(path, "".join(json.dumps(item.model_dump(mode="json"), ensure_ascii=False) + "\n" for item in items))


def _ask(judge: Judge, pictures: Tensor) -> list[Answer]:
    try:
        answers = judge(pictures)
        if len(answers) == len(pictures):
            return [_checked(judge, answer) for answer in answers]
        reason = f"{len(answers)} answers for {len(pictures)} pictures"
    except Exception as error:  # a detector may be anybody's; whatever it raises is its failure, not a finding
        reason = f"{type(error).__name__}: {error}"
    if len(pictures) == 1:
        return [Answer({}, {}, reason)]
    return [answer for picture in pictures for answer in _ask(judge, picture[None])]  # one bad picture spoils itself


def _checked(judge: Judge, answer: Answer) -> Answer:
    if answer.error:
        return Answer({}, {}, answer.error)
    odd = [f"{q}={label!r}" for q, label in answer.labels.items() if label not in judge.questions.get(q, ())]
    odd += [f"confidence in {q} is {p}" for q, p in answer.confidence.items() if not math.isfinite(p)]
    return Answer({}, {}, f"an answer that it does not know: {', '.join(odd)}") if odd else answer
