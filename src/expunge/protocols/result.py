"""What a run of a protocol says in the end: its scores, thresholds and record, from the answers on disk."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from expunge import runtime
from expunge.detectors.base import Reading
from expunge.detectors.spread import neighbouring_rates, spread
from expunge.files import read_lines, write_text
from expunge.protocols.answered import Answered
from expunge.protocols.answers import Answers
from expunge.protocols.formulas import FORMULAS, false_alarms, harmonic
from expunge.protocols.images import ImageMeasures
from expunge.protocols.kept import Part
from expunge.protocols.plan import Plan, listed
from expunge.protocols.schema import Protocol
from expunge.protocols.settings import RunSettings
from expunge.protocols.watching import Watcher, reading_of
from expunge.records import Score
from expunge.records.protocol import ProtocolResult, RowOf, Subject, Threshold, Used

RESULT, ROWS = "protocol.json", "rows.jsonl"
PLAIN = "plain"
"""The folder of an attack's rows without the attack."""


def result_of(plan: Plan, eyes: Sequence[Watcher], measures: ImageMeasures,
              answers: Answers, scores: Sequence[Score],
              subjects: Sequence[Subject], settings: RunSettings, began: float) -> ProtocolResult:
    """The record of a run, without what only a model could tell. `began`: on the monotonic clock."""
    protocol = plan.protocol
    stand_in = any(one.artefact.test_only for one in plan.files.values()) or any(
        eye.watch.options.get("purpose") == "test-only" for eye in eyes)
    return ProtocolResult(
        protocol=protocol.protocol + ("-modified" if plan.deviations else ""), protocol_hash=protocol_hash(protocol),
        version=protocol.version, title=protocol.title, source=protocol.source, transfer=protocol.transfer,
        adaptive=bool(protocol.attack),
        sensitive=protocol.sensitive, deviations=plan.deviations,
        rows=len(listed(plan)),
        given=plan.read.said, left_out=_left_out(plan, answers), scores=tuple(scores),
        files=tuple(Used(role=role, what=one.artefact.what, sha256=one.sha256, matched=one.matched,
                         test_only=one.artefact.test_only) for role, one in plan.files.items()),
        detectors={**{eye.watch.name: eye.detector.name for eye in eyes}, **measures.names()},
        thresholds=tuple(thresholds(eyes, answers, subjects)), test_only=stand_in, stored=settings.store,
        benchmark=protocol.benchmark.model_dump(mode="json") if protocol.benchmark else {},
        notes=protocol.notes, versions=runtime.versions(), seconds=round(time.monotonic() - began, 1),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"))


def write_rows(folder: Path, plan: Plan) -> None:
    """`rows.jsonl`: a line for each row that is asked, without its text where the list is sensitive."""
    sensitive = plan.protocol.sensitive
    write_text(folder / ROWS, "".join(f"{row.kept(sensitive, plan.erased[row.number]).model_dump_json()}\n"
                                      for row in listed(plan)))


def read_rows(folder: Path) -> Iterator[RowOf]:
    """The rows that a run in `folder` asked, in their order."""
    return (RowOf.model_validate_json(line) for line in read_lines(folder / ROWS))


def protocol_hash(protocol: Protocol) -> str:
    """First 16 hex digits of sha256 over all that the file says."""
    return hashlib.sha256(protocol.model_dump_json(exclude_defaults=True).encode()).hexdigest()[:16]


def scores_of(plan: Plan, answers: Answers, measures: ImageMeasures, parts: Mapping[str, Part],
              subjects: Sequence[Subject]) -> list[Score]:
    """Every score of the protocol, of each subject; those that rest on other scores last."""
    rows = {row.number: row for row in plan.rows}
    named = {watch.name: watch.labels for watch in plan.protocol.detectors}
    places = [(row.number, seed) for row, seed in plan.items]
    out: list[Score] = []
    for subject in subjects:
        asked, benign = ([place for place in places if (place[0] > 0) is own] for own in (True, False))
        every = Answered(rows, plan.erased, answers.of(asked, subject), subject, named)
        for score in plan.protocol.scores:
            if score.formula in FORMULAS:
                out += FORMULAS[score.formula][0](every.only(score.erased), score)
        if plan.protocol.prompts.benign:
            out += false_alarms(replace(every, images=answers.of(benign, subject)), plan.protocol)
    out += measures.scores(parts)
    for subject in subjects:
        prefix = "original/" if subject == "original" else ""
        mine = {one.name.removeprefix(prefix): one for one in out
                if one.name.startswith("original/") == (subject == "original")}
        for score in plan.protocol.scores:
            if score.formula == "harmonic":
                made = harmonic(score, mine)
                out.append(made.model_copy(update={"name": f"{prefix}{made.name}",
                                                   "subject": "original" if prefix else "edited"}))
    return out


def thresholds(eyes: Sequence[Watcher], answers: Answers, subjects: Sequence[Subject]) -> Iterator[Threshold]:
    """What each detector's rule says at neighbouring cuts, of each subject's images."""
    for eye in eyes:
        if not eye.rule.labels or not eye.rule.decides:
            continue
        for subject in subjects:
            lie = spread(_readings(answers, eye.watch.name, subject), eye.rule)
            if not lie.n + lie.errors + lie.abstained:
                continue
            around = neighbouring_rates(_readings(answers, eye.watch.name, subject), eye.rule, eye.detector.floor)
            rates = tuple((rate.cut, rate.yes, rate.n, rate.measured) for rate in around)
            yield Threshold(detector=eye.watch.name, subject=subject, own=eye.rule.threshold, rates=rates,
                            percentiles=lie.percentiles, n=lie.n, errors=lie.errors, abstained=lie.abstained)


def _readings(answers: Answers, detector: str, subject: Subject) -> Iterator[Reading]:
    """What the detector read of the subject's images, one at a time."""
    return (reading_of(one.answers[detector]) for one in answers
            if one.subject == subject and one.row > 0 and detector in one.answers)


def _left_out(plan: Plan, answers: Answers) -> dict[str, int]:
    """Rows that were not asked, and images that are none, by reason."""
    lost = Counter(plan.read.left_out) + Counter(plan.lost.values())
    lost += Counter(f"{one.subject}: {one.lost}" for one in answers if one.lost)
    return dict(lost)
