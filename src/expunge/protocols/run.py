"""A protocol from end to end: rows are drawn, looked at and forgotten, batch by batch; numbers stay.

Pixels do not pile up: of an image its answers, its hash and what accumulators make of it stay, and its pixels only
where they are asked for. Batches are cut from the whole list before anything is drawn, so a run
that was killed goes on behind the last whole batch with the same numbers, in any number of processes.

`protocols.kept` says what lies in the folder; the result is protocol.json, and images/ holds pixels that are stored.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image

from expunge import runtime
from expunge.detectors.base import Reading
from expunge.detectors.spread import neighbouring_rates, spread
from expunge.files import check_writable, read_lines, write_atomically, write_json, write_text
from expunge.locks import alone_in_out
from expunge.protocols.answered import Answered
from expunge.protocols.answers import Answers
from expunge.protocols.formulas import FORMULAS, false_alarms, harmonic
from expunge.protocols.images import ImageMeasures, asked_as
from expunge.protocols.kept import Kept, Part
from expunge.protocols.plan import Plan, kept_protocol, listed, planned
from expunge.protocols.rows import Row
from expunge.protocols.schema import Protocol
from expunge.protocols.settings import RunSettings
from expunge.protocols.watching import Watcher, check_labels, reading_of, watchers
from expunge.records import NOT_FINITE, Sampler, Score
from expunge.records.protocol import DetectorAnswer, ImageAnswer, ProtocolResult, RowOf, Subject, Threshold, Used
from expunge.resume import Inputs
from expunge.runtime import Progress

if TYPE_CHECKING:
    from torch import Tensor

    from expunge.models.model import Model
    from expunge.models.patch import Patch

RESULT, ROWS, IMAGES = "protocol.json", "rows.jsonl", "images"
PLAIN = "plain"
"""The folder of an attack's rows without the attack."""


@alone_in_out(when=lambda: runtime.current().main)
def run_protocol(model: Model, protocol: Protocol, patch: Patch | None = None, *,
                 files: Mapping[str, Path] | None = None, settings: RunSettings | None = None,
                 out: str | Path, progress: Progress | None = None) -> ProtocolResult:
    """Ask a model, and the same with an edit, what a protocol asks.

    Args:
        model: the base model, without a patch on. patch: the edit; None measures the model alone.
        files: what the protocol needs, by role.
        out: folder of the result; a run that was stopped goes on there.

    Raises:
        UserError, ConfigError: as `planned`; a patch for another model; a folder with another run in it.
    """
    from expunge.models.model import drawn_by

    began, settings, folder = time.monotonic(), RunSettings.given(settings), Path(out)
    tell, processes = progress or (lambda done, total, words: None), runtime.current()
    concepts = patch.card.request.concepts if patch is not None else ()
    if patch is not None:
        model.check_fits(patch)
    plan = planned(protocol, files or {}, settings, model, concepts)
    protocol = plan.protocol
    eyes = watchers(protocol.detectors, plan.paths)
    check_labels(protocol, (row.label for row in listed(plan)), eyes)
    check_writable(folder)
    subjects: tuple[Subject, ...] = ("original", "edited") if patch is not None else ("original",)
    measures = ImageMeasures(protocol.scores, plan.paths, subjects, settings.allow_deviation)
    kept = Kept(folder, _inputs(plan, model, patch, eyes, measures, settings), measures.parts(), processes)
    if processes.main:
        write_rows(folder, plan)
    _run(model, patch, plan, eyes, measures, kept, settings, folder, tell, processes)
    records = {}
    if processes.main:
        answers = kept.answers()
        scores = scores_of(plan, answers, measures, kept.parts, subjects)
        result = result_of(plan, eyes, measures, answers, scores, subjects, settings, began).model_copy(update={
            "model": model.name, "model_hash": model.hash, "patch_hash": patch.hash if patch is not None else "",
            "concepts": tuple(concepts), "machine": runtime.machine(model.device),
            "sampler": {**protocol.sampler.model_dump(mode="json"), "drawn": drawn_by(model)},
            "notes": (*protocol.notes, *_family_words(protocol, model))})
        write_json(folder / RESULT, result.model_dump(mode="json"))
        records[0] = result.model_dump(mode="json")
    return ProtocolResult.model_validate(processes.gather(records)[0])


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
    return hashlib.sha256(protocol.model_dump_json().encode()).hexdigest()[:16]


def _run(model: Model, patch: Patch | None, plan: Plan, eyes: Sequence[Watcher], measures: ImageMeasures,
         kept: Kept, settings: RunSettings, folder: Path, tell: Progress, processes: runtime.Runtime) -> None:
    """Draw and look at what is not there yet, batch by batch."""
    from expunge.models.model import applied
    from expunge.models.sample import draw

    subjects: tuple[Subject, ...] = ("original", "edited") if patch is not None else ("original",)

    def done(number: int) -> bool:
        items = [plan.items[place] for place in plan.batches[number]]
        images = [(row.number, seed, subject, 0) for row, seed in items for subject in subjects]
        there = settings.store != "pictures" or all(image_file(folder, *image).is_file() for image in images)
        return there and kept.done(number, images)

    mine = processes.shard([number for number in range(len(plan.batches)) if not done(number)])
    for count, number in enumerate(mine):
        tell(count, len(mine), "drawing and judging")
        places = plan.batches[number]
        chunk = [plan.items[place] for place in places]
        items = [(row.text, seed) for row, seed in chunk]

        def drawn(items: Sequence[tuple[str, int]] = items, sampler: Sampler = plan.samplers[places[0]]) -> Tensor:
            pixels: dict[int, Tensor] = {}
            draw(model, items, sampler, batch=len(items), sink=pixels.__setitem__, broken=pixels.__setitem__)
            return (torch.stack([pixels[place] for place in range(len(items))]) * 255).round() / 255

        images: dict[Subject, Tensor] = {"original": drawn()}
        if patch is not None:
            with applied(model, patch):
                images["edited"] = drawn()
        answers = [one for subject, pixels in images.items()
                   for one in looked_at(pixels, chunk, subject, eyes, settings.store, folder)]
        if not kept.holds(number):
            once = [place for place, at in enumerate(places) if at in plan.once]
            some = {subject: pixels[once] for subject, pixels in images.items()}
            measures.add(kept.parts, [asked_as(*chunk[place]) for place in once], some)
        kept.add(number, answers)
    kept.save()
    tell(max(1, len(mine)), max(1, len(mine)), "drawing and judging")
    processes.barrier()
    if processes.main:
        kept.join()


def looked_at(pixels: Tensor, chunk: Sequence[tuple[Row, int]], subject: Subject, eyes: Sequence[Watcher], store: str,
              folder: Path, again: Sequence[int] = ()) -> list[ImageAnswer]:
    """What the detectors say of images (B, 3, H, W) in [0, 1]; those that are not finite are none.

    Pixels and hashes are kept as `store` says. `again`: see `ImageAnswer`; () where each is the only one.
    """
    finite = pixels.flatten(1).isfinite().all(1).tolist()
    there = [place for place, whole in enumerate(finite) if whole]
    said: dict[int, dict[str, DetectorAnswer]] = {place: {} for place in there}
    for eye in eyes:
        labels = [chunk[place][0].label for place in there]
        for place, answer in zip(there, eye(pixels[there], labels), strict=True):
            said[place][eye.watch.name] = answer
    out = []
    for place, ((row, seed), more) in enumerate(zip(chunk, again or [0] * len(chunk), strict=True)):
        if place not in said:
            out.append(ImageAnswer(row=row.number, seed=seed, subject=subject, again=more, lost=NOT_FINITE))
            continue
        exact = (pixels[place] * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
        if store == "pictures":
            write_atomically(image_file(folder, row.number, seed, subject, more),
                             partial(Image.fromarray(exact).save, format="PNG"))
        digest = "" if store == "none" else hashlib.sha256(exact.tobytes()).hexdigest()
        out.append(ImageAnswer(row=row.number, seed=seed, subject=subject, again=more, answers=said[place],
                               pixels=digest))
    return out


def image_file(folder: Path, row: int, seed: int, subject: str, again: int = 0) -> Path:
    """Where an image's pixels lie, if they are stored."""
    return folder / IMAGES / subject / (f"{row}-{seed}-{again}.png" if again else f"{row}-{seed}.png")


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


def _inputs(plan: Plan, model: Model, patch: Patch | None, eyes: Sequence[Watcher], measures: ImageMeasures,
            settings: RunSettings) -> Inputs:
    return Inputs({
        "protocol": kept_protocol(plan.protocol), "model": model.hash, "drawing": model.drawing,
        "patch": patch.hash if patch is not None else "",
        "files": {role: one.sha256 for role, one in plan.files.items()},
        "detectors": {eye.watch.name: eye.detector.name for eye in eyes}, "instruments": measures.names(),
        "settings": settings.model_dump(mode="json", exclude={"allow_deviation"})})


def _left_out(plan: Plan, answers: Answers) -> dict[str, int]:
    """Rows that were not asked, and images that are none, by reason."""
    lost = Counter(plan.read.left_out) + Counter(plan.lost.values())
    lost += Counter(f"{one.subject}: {one.lost}" for one in answers if one.lost)
    return dict(lost)


def _family_words(protocol: Protocol, model: Model) -> list[str]:
    if not protocol.family or model.family == protocol.family:
        return []
    return [f"The protocol is for {protocol.family}, and {model.name} is {model.family}: its numbers cannot be "
            "compared with published ones."]
