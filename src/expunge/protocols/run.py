"""A protocol from end to end: rows are drawn, looked at and forgotten, batch by batch; numbers stay.

Pixels do not pile up: of an image its answers, its hash and what accumulators make of it stay, and its pixels only
where they are asked for. Batches are cut from the whole list before anything is drawn, so a run
that was killed goes on behind the last whole batch with the same numbers, in any number of processes.

Runs of several edits of one model can share the original's: `draw_original` draws and judges it once, and each run
takes its answers and accumulators from there. Only distances between pairs of images need its pixels again.

`protocols.kept` says what lies in the folder; the result is protocol.json, and images/ holds pixels that are stored.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from expunge import runtime, untrusted
from expunge.errors import ModelError, UserError
from expunge.files import check_writable, write_json
from expunge.isolated import isolated
from expunge.locks import alone_in_out
from expunge.protocols.answers import Answers
from expunge.protocols.images import ImageMeasures, asked_as
from expunge.protocols.kept import PLAN, Kept
from expunge.protocols.look import Run, look_at_all
from expunge.protocols.plan import Plan, kept_protocol, listed, planned
from expunge.protocols.result import RESULT, result_of, scores_of, write_rows
from expunge.protocols.schema import Protocol
from expunge.protocols.settings import UNSEEN, RunSettings
from expunge.protocols.watching import Watcher, check_labels, watchers
from expunge.protocols.wipe import keep_until
from expunge.records.protocol import ProtocolResult, Subject
from expunge.resume import Inputs
from expunge.runtime import Progress

if TYPE_CHECKING:
    from expunge.models.model import Model
    from expunge.models.patch import Patch

_SHARED = "original"
"""The input of a run that takes the original's answers from another one."""


@isolated
@alone_in_out(when=lambda: runtime.current().main)
def run_protocol(model: Model, protocol: Protocol, patch: Patch | None = None, *,
                 files: Mapping[str, Path] | None = None, settings: RunSettings | None = None,
                 out: str | Path, original: str | Path | None = None, progress: Progress | None = None
                 ) -> ProtocolResult:
    """Ask a model, and the same with an edit, what a protocol asks.

    Args:
        model: the base model, without a patch on. patch: the edit; None measures the model alone.
        files: what the protocol needs, by role.
        out: folder of the result; a run that was stopped goes on there.
        original: folder of `draw_original` with the same model, protocol, files and settings; None draws the original.

    Raises:
        UserError, ConfigError: as `planned`; a patch for another model; a folder with another run in it; an original
            that was drawn otherwise or not to its end.
    """
    from expunge.models.model import drawn_by

    began, settings = time.monotonic(), RunSettings.given(settings)
    processes, shared = runtime.current(), None if original is None else Path(original)
    if patch is not None:
        model.check_fits(patch)
    run = _begun(model, protocol, patch, files or {}, settings, Path(out), shared)
    protocol, concepts = run.plan.protocol, patch.card.request.concepts if patch is not None else ()
    if processes.main:
        write_rows(run.folder, run.plan)
        keep_until(run.folder, settings.keep_days)
    look_at_all(run, progress or _quiet, processes)
    records = {}
    if processes.main:
        subjects = _subjects(patch)
        answers = Answers(run.folder, *([shared] if shared else []))
        parts = {**(run.original.parts if run.original else {}), **run.kept.parts}
        order = [asked_as(*run.plan.items[place])[0] for batch in run.plan.batches for place in batch
                 if place in run.plan.once]
        for part in parts.values():  # bootstraps draw by place, so the order decides the last digits of an interval
            part.arrange(order)
        scores = scores_of(run.plan, answers, run.measures, parts, subjects)
        result = result_of(run.plan, run.eyes, run.measures, answers, scores, subjects, settings, began
                           ).model_copy(update={
            "model": model.name, "model_hash": model.hash, "patch_hash": patch.hash if patch is not None else "",
            "concepts": tuple(concepts), "machine": runtime.machine(model.device),
            "sampler": {**protocol.sampler.model_dump(mode="json"), "drawn": drawn_by(model)},
            "notes": (*protocol.notes, *_family_words(protocol, model))})
        write_json(run.folder / RESULT, result.model_dump(mode="json"))
        records[0] = result.model_dump(mode="json")
    return ProtocolResult.model_validate(processes.gather(records)[0])


@alone_in_out(when=lambda: runtime.current().main)
def draw_original(model: Model, protocol: Protocol, *, files: Mapping[str, Path] | None = None,
                  settings: RunSettings | None = None, out: str | Path, progress: Progress | None = None) -> None:
    """Draw and judge the original once, for `run_protocol` of its edits; what is there already is not made again.

    Raises:
        UserError, ConfigError: as `planned`; a folder with another run in it.
    """
    settings = RunSettings.given(settings)
    run = _begun(model, protocol, None, files or {}, settings, Path(out), None, for_edits=True)
    if runtime.current().main:
        keep_until(run.folder, settings.keep_days)
    look_at_all(run, progress or _quiet, runtime.current())


def check_same_run(model: Model, protocol: Protocol, patch: Patch | None, *, files: Mapping[str, Path],
                   settings: RunSettings, out: Path, original: Path | None) -> None:
    """Raise UserError, by the names of what differs, unless what lies in `out` is this run. Nothing is drawn."""
    _begun(model, protocol, patch, files, settings, out, original)


def shares(folder: Path) -> bool:
    """Whether a run that lies in a folder takes the original's answers from another one, or none was begun there."""
    file = folder / PLAN
    return not file.is_file() or _SHARED in _kept_inputs(file)


def _kept_inputs(file: Path) -> dict[str, object]:
    """What a run was begun with. ModelError: that cannot be read."""
    try:
        found = untrusted.mapping_of(file).get("inputs")
    except OSError as error:
        raise ModelError(f"{file} is damaged: {error}", remedy="delete the folder to start over") from error
    return found if isinstance(found, dict) else {}


def _begun(model: Model, protocol: Protocol, patch: Patch | None, files: Mapping[str, Path], settings: RunSettings,
           folder: Path, original: Path | None, for_edits: bool = False) -> Run:
    """All that is settled before anything is drawn; `for_edits`: there will be edits to be paired with."""
    plan = planned(protocol, files, settings, model, patch.card.request.concepts if patch is not None else ())
    eyes = watchers(plan.protocol.detectors, plan.paths)
    check_labels(plan.protocol, listed(plan), eyes)
    check_writable(folder)
    measures = ImageMeasures(plan.protocol.scores, plan.paths, _subjects(patch), settings.allow_deviation, for_edits)
    inputs = _inputs(plan, model, patch, eyes, measures, settings)
    processes, before = runtime.current(), None
    if original is not None:
        alone = Inputs({**inputs.values, "patch": ""})
        before = Kept(original, alone, measures.parts(("original",)), processes)
        inputs = Inputs({**inputs.values, _SHARED: alone.digest[:16]})
    kept = Kept(folder, inputs, measures.parts(_subjects(patch) if before is None else ("edited",)), processes)
    run = Run(model, patch, plan, eyes, measures, kept, settings, folder, before)
    if original is not None and before is not None:
        whole = Run(model, None, plan, eyes, measures, before, settings, original)
        if patch is None or not all(map(whole.done, range(len(plan.batches)))):
            raise UserError(f"the original in {original} is not drawn to its end" if patch is not None else
                            "an original to share, and no edit", accepted="a whole run of `draw_original`, and an edit")
    return run


def _subjects(patch: Patch | None) -> tuple[Subject, ...]:
    return ("original", "edited") if patch is not None else ("original",)


def _quiet(done: int, total: int, words: str) -> None:
    """Nobody is told."""


def _inputs(plan: Plan, model: Model, patch: Patch | None, eyes: Sequence[Watcher], measures: ImageMeasures,
            settings: RunSettings) -> Inputs:
    return Inputs({
        "protocol": kept_protocol(plan.protocol), "model": model.hash, "drawing": model.drawing,
        "patch": patch.hash if patch is not None else "",
        "files": {role: one.sha256 for role, one in plan.files.items()},
        "detectors": {eye.watch.name: eye.detector.name for eye in eyes}, "instruments": measures.names(),
        "settings": settings.model_dump(mode="json", exclude=UNSEEN)})


def _family_words(protocol: Protocol, model: Model) -> list[str]:
    if not protocol.family or model.family == protocol.family:
        return []
    return [f"The protocol is for {protocol.family}, and {model.name} is {model.family}: its numbers cannot be "
            "compared with published ones."]
