"""The cells of a bench: a method on a concept with a seed, each in a folder of its own, and what it was made under.

    <out>/cells/<method>/<concept>/<seed>/patch.*, cost.json     the edit
                                          attack/, evaluation/   what was found out about it
                                          cell.json              what came of it (the `Edit` record)

Each of the three stages leaves a `settings.json` in its folder: all that decides its results. A folder that was begun
under other settings is refused, with what differs: nothing is mixed, nothing is thrown away unasked. Only what changes
no number (batches, which images are shown) may change between runs. A setting that did not exist when a cell was
made, and that is at its default now, is told in the bench's record; whether the numbers still hold is for
`bench.check`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from expunge import untrusted
from expunge.attacks.settings import AttackSettings
from expunge.attacks.suite import rehearsed
from expunge.bench.settings import BenchConcept, BenchMethod, BenchSettings
from expunge.errors import ConfigError, UserError
from expunge.evaluation import EvaluateSettings, planned_prompts
from expunge.evaluation.plan import prompts_digest
from expunge.files import folder_of, readable, write_json
from expunge.metrics.prompts import Prompts
from expunge.metrics.worlds import World
from expunge.models.model import Model
from expunge.records import Edit, Request, check_request
from expunge.resume import Inputs, refusal, shortened
from expunge.sealed import read_sealed_json
from expunge.unlearn.erase import CHECKPOINT, PATCH, resolve_method, seeks_surrogate
from expunge.unlearn.method import Configured, Method
from expunge.unlearn.surrogate import surrogates

log = logging.getLogger(__name__)

SETTINGS, CELL = "settings.json", "cell.json"
Stage = Literal["erase", "attack", "evaluate"]


@dataclass(frozen=True)
class Cell:
    """One edit to be made.

    Attributes:
        method: its row in the bench; chosen: the method itself.
        concept: the concept's label; request: what is to be taken out.
        attack: the attacks on it; None for none.
        seed: of the edit; folder: of everything.
        under: what decides the cell's results, by stage; a stage that is not made is not in it.
    """

    method: BenchMethod
    chosen: Method
    concept: str
    request: Request
    attack: AttackSettings | None
    seed: int
    folder: Path
    under: Mapping[Stage, Inputs]

    @property
    def name(self) -> str:
        """What progress and messages call it."""
        return f"{self.method.title}, {self.concept}, seed {self.seed}"

    def place(self, stage: Stage) -> Path:
        """The folder of a stage."""
        return {"erase": self.folder, "attack": self.folder / "attack", "evaluate": self.folder / "evaluation"}[stage]

    def made(self) -> Edit | None:
        """What came of it, failures included; None if it is not finished, or its record cannot be read."""
        try:
            edit = Edit.read(json.dumps(read_sealed_json(self.folder / CELL)))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            log.warning("%s is damaged (%s); it is made again", self.folder / CELL, str(error).splitlines()[0])
            return None
        whole = all(begun_under(self.place(stage)) is not None for stage in self.under)
        return edit if edit.failed_at or whole else None

    def unknown(self) -> list[str]:
        """Settings that did not exist when the cell was made, with the values that are taken for them."""
        return [f"{stage}: {name}" for stage, now in self.under.items() if (begun := begun_under(self.place(stage)))
                for name in now.compared(begun)[1]]

    def begin(self, stage: Stage) -> None:
        """Write down under which settings a stage is made."""
        write_json(self.place(stage) / SETTINGS, dict(self.under[stage].values))


_BEGUN = (PATCH, CHECKPOINT)
"""What an edit leaves once it has begun: the patch, or how far it is."""


def planned_cells(settings: BenchSettings, model: Model, completes: Prompts, asks: Prompts, out: Path) -> list[Cell]:
    """Every cell, seed by seed: a bench that is stopped early has met every method with its first seed.

    Args:
        completes: who makes requests of the concepts. asks: whose prompts the evaluation asks.

    Raises:
        ConfigError: concepts that nobody knows, all at once.
    """
    chosen = {row.title: resolve_method(row.method, row.settings, model) for row in settings.methods}
    requests: dict[str, dict[str, Request]] = {}
    mistakes: dict[str, None] = {}
    for concept in settings.concepts:
        try:
            requests[concept.title] = {title: _request(model, completes, concept, method)
                                       for title, method in chosen.items()}
        except UserError as error:
            mistakes[str(error)] = None
    if mistakes:
        raise ConfigError("; ".join(mistakes))
    attacks = {concept.title: settings.attack_on(concept) for concept in settings.concepts}
    return [Cell(row, chosen[row.title], title, of[row.title], attacks[title], seed,
                 _apart(_apart(out / "cells", row.title, [*chosen]), title, [*requests]) / str(seed),
                 _under(settings, row, chosen[row.title], model, asks, of[row.title], attacks[title], seed))
            for seed in settings.seeds for title, of in requests.items() for row in settings.methods]


def _apart(parent: Path, title: str, titles: Sequence[str]) -> Path:
    """The folder of one of `titles`; one that an earlier version named, if it can be no other's."""
    alone = [readable(other) for other in titles].count(readable(title)) == 1
    return folder_of(parent, title, known=lambda folder: alone)


def _request(model: Model, completes: Prompts, column: BenchConcept, method: Method) -> Request:
    """What is asked of a method: where the column names no anchor, as `erase` would choose one for it."""
    request = completes.request(column.concept, column.anchor or "", column.keep)
    if column.anchor is None and seeks_surrogate(method, request):
        found = [one.anchor for one in surrogates(model, request.concepts)]
        request = completes.request(column.concept, found if len(found) > 1 else found[0], column.keep)
    check_request(request)
    return request


def chosen_cells(cells: Sequence[Cell], only: Iterable[str]) -> list[Cell]:
    """The cells of the methods called `only` (by label or registered name); all of them if nothing is named.

    Raises:
        UserError: no method is called so.
    """
    wanted = list(only)
    known = {name: None for cell in cells for name in (cell.method.title, cell.method.method)}
    strange = [name for name in wanted if name not in known]
    if strange:
        raise UserError(f"no method called {', '.join(map(repr, strange))} in this bench",
                        accepted=", ".join(map(repr, known)))
    return [cell for cell in cells if not wanted or {cell.method.title, cell.method.method} & set(wanted)]


def check_methods(cells: Sequence[Cell], model: Model) -> None:
    """Look for methods that do not fit the model or a concept.

    Raises:
        ConfigError: there are some, all of them with the reason.
    """
    wrong: dict[str, None] = {}
    for cell in {(cell.method.title, cell.concept): cell for cell in cells}.values():
        try:
            if isinstance(cell.chosen, Configured):
                cell.chosen.check(model, cell.request)
        except UserError as error:
            wrong[f"{cell.method.title}, {cell.concept}: {error}"] = None
    if wrong:
        raise ConfigError("; ".join(wrong), remedy="mend these rows or leave them out; nothing was begun")


def check_attacks(cells: Sequence[Cell], model: Model, world: World) -> None:
    """Look for attacks that cannot be made on a concept, whatever the edit.

    Raises:
        ConfigError: there are some, all of them with the reason.
    """
    wrong: dict[str, None] = {}
    for cell in {cell.concept: cell for cell in cells}.values():
        for concept in cell.request.concepts:
            try:
                if cell.attack is not None:
                    rehearsed(model, None, concept, cell.attack, world)
            except UserError as error:
                wrong[f"{concept}: {error}"] = None
    if wrong:
        raise ConfigError("; ".join(wrong), remedy="mend the attacks' settings; nothing was begun")


def check_begun(cells: Sequence[Cell]) -> None:
    """Look for cells that were begun under other settings.

    Raises:
        ConfigError: there are some; each with what differs.
    """
    odd: dict[Path, str] = {}
    for cell in cells:
        for stage, now in cell.under.items():
            if stage == "erase" and not any((cell.folder / name).exists() for name in _BEGUN):
                continue  # nothing came of it
            before = begun_under(cell.place(stage))
            differs = now.compared(before)[0] if before is not None else []
            if differs:
                odd[cell.place(stage)] = shortened(differs)
                break
    if odd:
        which = "; ".join(f"{place}: {what}" for place, what in list(odd.items())[:6])
        more = f"; and {len(odd) - 6} more" if len(odd) > 6 else ""
        raise refusal(f"{len(odd)} of {len(cells)} cells were", f"{which}{more}")


def _under(settings: BenchSettings, row: BenchMethod, chosen: Method, model: Model, asks: Prompts,
           request: Request, attack: AttackSettings | None, seed: int) -> dict[Stage, Inputs]:
    """Every setting resolved: of the method, if it has settings (else as the file names them), and of the rest.

    Cells of old do not tell the parts.
    """
    resolved = chosen.model_dump(mode="json") if isinstance(chosen, Configured) else row.settings
    former = chosen.model_dump(mode="json", by_alias=True) if isinstance(chosen, Configured) else row.settings
    out: dict[Stage, Any] = {"erase": {"model": model.hash, "process": model.process.description, "parts": model.parts,
                                       "method": row.method,
                                       "settings": resolved, "request": request.model_dump(mode="json"), "seed": seed}}
    if (number := str(model.dtype).removeprefix("torch.")) != "float32":  # cells in float32 do not tell it
        out["erase"]["dtype"] = number
    out.update(measured_under(settings, attack))
    if settings.evaluation.prompts:  # the file may change under the same name
        asked = planned_prompts(asks, request, settings.evaluation)
        out["evaluate"]["prompts_hash"] = prompts_digest(asked)
    plain = resolve_method(row.method, {})
    own = {"settings": plain.model_dump(mode="json")} if isinstance(plain, Configured) else {}
    defaults: dict[Stage, Any] = {"erase": {"parts": model.parts, **own},
                                  "attack": AttackSettings().model_dump(mode="json"),
                                  "evaluate": EvaluateSettings().model_dump(mode="json")}
    return {stage: Inputs(value, former={"settings": former} if stage == "erase" else {}, defaults=defaults[stage])
            for stage, value in out.items()}


def measured_under(settings: BenchSettings, attack: AttackSettings | None) -> dict[Stage, dict[str, Any]]:
    """What decides the results of attacks and evaluation, by stage, but for the contents of files that it names."""
    out: dict[Stage, dict[str, Any]] = {
        "evaluate": settings.evaluation.model_dump(mode="json", exclude={"batch", "strips", "strip_columns"})}
    return out if attack is None else {"attack": attack.model_dump(mode="json", exclude={"batch"}), **out}


def begun_under(folder: Path) -> dict[str, Any] | None:
    """Under which settings a folder was begun; None if there is nothing. A file that cannot be read fits nothing."""
    file = folder / SETTINGS
    if not file.exists():
        return None
    try:
        stored = untrusted.json_of(file)
    except (OSError, ValueError):
        return {}
    return stored if isinstance(stored, dict) else {}
