"""One cell: erase, attack, evaluate, and the record of it. Each stage goes on where an earlier run left it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from expunge import interrupts, runtime, untrusted
from expunge.attacks.settings import AttackSettings
from expunge.attacks.suite import attack
from expunge.bench.cells import CELL, Cell, Stage
from expunge.bench.counting import counted
from expunge.bench.items import attack_items, evaluation_items
from expunge.bench.memory import PeakMemory
from expunge.bench.settings import BenchSettings
from expunge.errors import ExpungeError, StorageError
from expunge.evaluation import evaluate
from expunge.files import folder_of, readable, write_json
from expunge.metrics.worlds import World
from expunge.models.model import Model
from expunge.models.patch import Patch
from expunge.records import EVALUATIONS, SUITE_RESULTS, Edit, EditCost, Evaluation, Score, SuiteResult
from expunge.resume import kept
from expunge.sealed import write_sealed_json
from expunge.unlearn.erase import CHECKPOINT, PATCH, erase

log = logging.getLogger(__name__)

Tell = Callable[[str], None]
"""Told in words how far the cell is."""

COST = "cost.json"
KEPT = ("found/", "abstained/all", "retained/", "integrity/", "perceptual/floor", "perceptual/ceiling", "fid/", "kid/",
        "clip/", "change/", "attack/", "not_finite/", "second/found/", "second/abstained/all", "second/retained/")
"""Scores that go into the record of a bench, by the beginning of their names; the folder has them all."""


def make(cell: Cell, model: Model, world: World, settings: BenchSettings, tell: Tell) -> Edit:
    """Make the cell, keep its record, and return it. What goes wrong by itself becomes a failed record.

    Raises:
        StorageError: the record or what it rests on cannot be written; the next cell could not be either.
    """
    stage: list[Stage] = ["erase"]
    began = time.monotonic()
    edit = Edit(method=cell.method.title, preset=cell.method.method, concept=cell.concept, seed=cell.seed,
                folder=cell.folder.relative_to(cell.folder.parents[3]).as_posix(), versions=runtime.versions(),
                under={stage: dict(inputs.values) for stage, inputs in cell.under.items()},
                machine=f"{runtime.machine(model.device)}, {_threads()}")
    try:
        edit = edit.model_copy(update=_parts(cell, model, world, settings, tell, stage))
    except StorageError:
        raise
    except Exception as error:  # a method may be anybody's; whatever it raises is its failure and not the bench's
        interrupts.check()
        said = str(error) if isinstance(error, ExpungeError) else f"{type(error).__name__}: {error}"
        log.warning("%s failed at %s: %s", cell.name, stage[-1], said, exc_info=not isinstance(error, ExpungeError))
        edit = edit.model_copy(update={"failed_at": stage[-1], "failure": said, "cost": _read_cost(cell.folder),
                                       "seconds": {stage[-1]: round(time.monotonic() - began, 1)}})
    edit = edit.model_copy(update={"created": datetime.now(timezone.utc).isoformat(timespec="seconds")})
    write_sealed_json(cell.folder / CELL, edit.model_dump(mode="json"))
    return edit


def _parts(cell: Cell, model: Model, world: World, settings: BenchSettings, tell: Tell, stage: list[Stage]
           ) -> dict[str, Any]:
    """Everything that the record of a whole cell holds; `stage` grows as the stages begin."""
    seconds: dict[str, float] = {}
    with _timed(seconds, "erase"):
        patch, cost = _erased(cell, model, tell)
    suites: list[SuiteResult] = []
    if cell.attack is not None:
        stage.append("attack")
        with _timed(seconds, "attack"):
            suites = _attacked(cell, model, patch, world, cell.attack, tell)
    stage.append("evaluate")
    with _timed(seconds, "evaluate"):
        evaluation = _evaluated(cell, model, patch, world, suites, settings, tell)
    scores = [*evaluation.scores, *(suites[0].scores if len(suites) == 1 else _controls(suites))]
    warnings = [*evaluation.warnings, *(line for suite in suites for line in suite.warnings)]
    return {
        "scores": tuple(_bare(score) for score in scores if score.name.startswith(KEPT)),
        "items": {**attack_items(suites), **evaluation_items(evaluation, patch, world.prompts, settings.evaluation)},
        "cost": cost, "attacks": tuple(dict.fromkeys(run.attack for suite in suites for run in suite.runs)),
        "warnings": tuple(dict.fromkeys(warnings)), "seconds": {**seconds, "erase": cost.seconds},
        "patch_hash": patch.hash}


def _erased(cell: Cell, model: Model, tell: Tell) -> tuple[Patch, EditCost]:
    """The patch and what it took, now or as an earlier run left them."""
    made, cost = _kept_patch(cell, model), _read_cost(cell.folder)
    if made is not None and cost is not None:
        return made, cost
    cell.begin("erase")
    went_on = made is not None or (cell.folder / CHECKPOINT).is_file()
    with PeakMemory(model.device) as peak, counted(model) as rows:
        began, busy = time.monotonic(), time.process_time()
        patch = erase(model, cell.request, cell.chosen, seed=cell.seed, out=cell.folder, own_look=False,
                      progress=lambda done, total, losses: tell(f"erasing {done}/{total}"))
        seconds, busy = patch.card.seconds or time.monotonic() - began, time.process_time() - busy
    timed = model.device.type == "cpu" and not went_on
    cost = EditCost(
        seconds=round(seconds, 2), processor=round(busy, 2) if timed else None, steps=patch.card.steps,
        peak_memory=peak.bytes, **({} if went_on else {"unet_frozen": rows.frozen, "unet_trained": rows.trained}),
        changed=patch.numel,
        of=sum(tensor.numel() for tensor in model.parameters_in("all").values()),
        patch_bytes=(cell.folder / "patch.safetensors").stat().st_size)
    write_json(cell.folder / COST, cost.model_dump(mode="json"))
    return patch, cost


def _kept_patch(cell: Cell, model: Model) -> Patch | None:
    """The patch that an earlier run left; None if there is none, or it is damaged (then it is made again)."""
    patch = kept(Patch.load, cell.folder, PATCH)
    if patch is None or (patch.card.request, patch.card.seed) != (cell.request, cell.seed):
        return None
    return patch if patch.made_on(model) else None


def _attacked(cell: Cell, model: Model, patch: Patch, world: World, settings: AttackSettings, tell: Tell
              ) -> list[SuiteResult]:
    """A suite for each concept of the request; one that an earlier run finished is read back."""
    cell.begin("attack")
    out = []
    for concept in cell.request.concepts:
        folder = attack_folder(cell, concept)
        made = kept(SUITE_RESULTS.read, folder, SUITE_RESULTS.name)
        if made is None or made.patch_hash != patch.hash:
            made = attack(model, patch, concept=concept, settings=settings, out=folder, world=world,
                          progress=lambda done, total, name: tell(f"attack {name} {done}/{total}"))
        out.append(made)
    return out


def attack_folder(cell: Cell, concept: str) -> Path:
    """Where the attacks for one of the request's concepts lie."""
    concepts = cell.request.concepts
    if len(concepts) == 1:
        return cell.place("attack")
    alone = [readable(other) for other in concepts].count(readable(concept)) == 1
    return folder_of(cell.place("attack"), concept, known=lambda folder: alone)


def _evaluated(cell: Cell, model: Model, patch: Patch, world: World, suites: list[SuiteResult],
               settings: BenchSettings, tell: Tell) -> Evaluation:
    """The evaluation, now or as an earlier run left it; with the attacks in it if they sought the one concept."""
    cell.begin("evaluate")
    folder = cell.place("evaluate")
    suite = suites[0] if len(suites) == 1 else None
    made = kept(EVALUATIONS.read, folder, EVALUATIONS.name)
    if made is not None and made.card.tensors_hash == patch.hash and made.suite == suite:
        return made
    if made is not None:  # of an edit or of attacks that were made again since
        (folder / EVALUATIONS.name).unlink()
    return evaluate(model, patch, settings=settings.evaluation, out=folder, cache=settings.cache or None, world=world,
                    suite=attack_folder(cell, cell.request.concept) if suite else None,
                    progress=lambda done, total, note: tell(f"{note} {done}/{total}"))


def _read_cost(folder: Path) -> EditCost | None:
    try:
        return EditCost.read(untrusted.text(folder / COST))
    except (OSError, ValueError):
        return None


def _controls(suites: Sequence[SuiteResult]) -> list[Score]:
    """The null controls of attacks on several concepts, counted together; none has an interval of its own."""
    each: dict[str, list[Score]] = {}
    for score in (score for suite in suites for score in suite.scores if score.name.endswith("/control")):
        each.setdefault(score.name, []).append(score)
    out = []
    for scores in each.values():
        n, hits = sum(score.n for score in scores), sum(score.numerator or 0 for score in scores)
        out.append(scores[0].model_copy(update={
            "n": n, "numerator": hits, "value": hits / n if n else None, "low": None, "high": None, "interval": "",
            "prompts": sum(score.prompts for score in scores), "note": "over all concepts of the request"}))
    return out


def _bare(score: Score) -> Score:
    """The score without its items, which the record holds by prompt."""
    return score.model_copy(update={"per_item": {}})


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    seconds[stage] = round(time.monotonic() - began, 1)


def _threads() -> str:
    count = torch.get_num_threads()
    return f"{count} thread{'' if count == 1 else 's'}"
