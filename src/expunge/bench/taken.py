"""Cells that another machine made, taken from the record of its bench where they were made under the same settings.

A taken cell has no patch and no images here. Its numbers and items count like those of the cells made here, and its
record says where they come from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from expunge.bench.cells import CELL, SETTINGS, Cell, Stage, begun_under, measured_under
from expunge.bench.settings import BenchConcept, BenchMethod, BenchSettings
from expunge.errors import ConfigError
from expunge.files import file_digest, packed_text, write_json
from expunge.locks import held
from expunge.models.model import Model
from expunge.records import BenchResult, Edit
from expunge.resume import shortened
from expunge.sealed import write_sealed_json

Row = TypeVar("Row", BenchMethod, BenchConcept)
_MEASURES: tuple[Stage, ...] = ("attack", "evaluate")


@dataclass(frozen=True)
class Taken:
    """What came of a record.

    Attributes:
        cells: those that were taken; here: those that are made or begun here already, and were left alone.
        strange: cells of the record that this bench does not have. failed: those that broke off there.
    """

    cells: tuple[str, ...]
    here: tuple[str, ...]
    strange: tuple[str, ...]
    failed: tuple[str, ...]


def take(file: Path, cells: Sequence[Cell], settings: BenchSettings, model: Model) -> Taken:
    """Put the cells of a bench's record into the folders of this bench's cells.

    Args:
        file: `bench.json` of the other machine, or that with `.xz`.
        cells, settings: of this bench.

    Raises:
        ConfigError: the file cannot be read, is of another model, or some cell was made under other settings; nothing
            is taken then.
    """
    result, there = _read(file)
    if result.model_hash != model.hash:
        raise ConfigError(f"{file} is of another model ({result.model}, {result.model_hash[:12]})",
                          accepted=f"a bench of {model.name} ({model.hash[:12]})")
    mine = {(cell.method.title, cell.concept, cell.seed): cell for cell in cells}
    pairs = [(mine.get((edit.method, edit.concept, edit.seed)), edit) for edit in result.edits]
    odd = {_name(edit): differs for cell, edit in pairs if cell is not None and not edit.failed_at
           if (differs := _differs(cell, edit, settings, there))}
    if odd:
        raise ConfigError(
            f"{len(odd)} cells of {file} were made under other settings: "
            + "; ".join(f"{name} ({shortened(differs)})" for name, differs in [*odd.items()][:3])
            + "; ..." * (len(odd) > 3), accepted="cells of the same methods, attacks and evaluation",
            remedy="bring this file to those settings, or leave the record out; nothing was taken")
    source = f"{file.name}, sha256 {file_digest(file)[:12]}"
    taken: list[str] = []
    here: list[str] = []
    for cell, edit in pairs:
        if cell is not None and not edit.failed_at:
            (taken if _put(cell, edit, source) else here).append(_name(edit))
    return Taken(tuple(taken), tuple(here), tuple(_name(edit) for cell, edit in pairs if cell is None),
                 tuple(_name(edit) for cell, edit in pairs if cell is not None and edit.failed_at))


def _read(file: Path) -> tuple[BenchResult, BenchSettings]:
    """The record, and the file of its bench as it is in it."""
    try:
        result = BenchResult.read(packed_text(file))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read as the record of a bench: {error}",
                          accepted="bench.json of a bench, or that packed as .xz") from error
    return result, BenchSettings.build(result.settings, f"the bench in {file}")


def _differs(cell: Cell, edit: Edit, settings: BenchSettings, there: BenchSettings) -> list[str]:
    """What the cell was made under and this bench asks otherwise."""
    told = edit.under or measured_under(there, there.attack_on(_row(there.concepts, edit.concept)))
    lines = [f"{stage}: {line}" for stage, now in cell.under.items() if stage in told
             for line in now.compared(told[stage])[0]]
    lines += [f"{stage}: not made there" for stage in _MEASURES if stage in cell.under and stage not in told]
    lines += [f"{stage}: not made here" for stage in _MEASURES if stage in told and stage not in cell.under]
    if not edit.under:  # an earlier version: what the edit was made under stands in the bench's file alone
        if _row(settings.methods, edit.method) != _row(there.methods, edit.method):
            lines.append("erase: the row's settings")
        if _row(settings.concepts, edit.concept) != _row(there.concepts, edit.concept):
            lines.append("erase: what is asked of the concept")
    return lines


def _row(rows: Iterable[Row], title: str) -> Row:
    return next(row for row in rows if row.title == title)


def _put(cell: Cell, edit: Edit, source: str) -> bool:
    """Keep the cell's record where one that was made here would lie; False if there is anything of it already."""
    with held(cell.folder) as mine:
        if not mine or cell.made() is not None or begun_under(cell.folder) is not None:
            return False
        for stage, now in cell.under.items():
            write_json(cell.place(stage) / SETTINGS, edit.under.get(stage) or dict(now.values))
        write_sealed_json(cell.folder / CELL, edit.model_copy(update={"taken_from": edit.taken_from or source}
                                                       ).model_dump(mode="json"))
    return True


def _name(edit: Edit) -> str:
    return f"{edit.method}, {edit.concept}, seed {edit.seed}"
