"""The verb: make every cell that is not made yet, alone or beside other processes, and gather what came of them.

Processes share a bench by its folder alone, also those of one launcher: each takes the next cell that is neither made
nor held by another one. A cell that failed is made again by the next run, not by those that run already.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from expunge import runtime, untrusted
from expunge.bench.cells import (
    CELL,
    Cell,
    check_attacks,
    check_begun,
    check_methods,
    chosen_cells,
    planned_cells,
)
from expunge.bench.check import checked, read_check, refuse_apart
from expunge.bench.gather import gathered
from expunge.bench.make import make
from expunge.bench.protocols import PAUSE, ask_all, check_protocols, protocol_tables
from expunge.bench.settings import BenchSettings, read_bench
from expunge.bench.taken import Taken, take
from expunge.detectors.choosing import world_for
from expunge.errors import UserError
from expunge.files import check_writable, write_text
from expunge.isolated import isolated
from expunge.locks import held
from expunge.metrics.worlds import World
from expunge.models.store import load
from expunge.records import BenchResult
from expunge.runtime import Progress

RESULT = "bench.json"
TABLES = "protocols.md"
"""A table for each published protocol, where the bench asks any."""


@isolated
def run_bench(settings: BenchSettings | Mapping[str, object] | str | Path, *, out: str | Path | None = None,
              only: Iterable[str] = (), make_cells: bool = True, check: int = 0, records: Iterable[str | Path] = (),
              took: Callable[[Path, Taken], None] | None = None, progress: Progress | None = None,
              world: World | None = None) -> BenchResult:
    """Run a bench, or what is left of it, and write its record to `<out>/bench.json`.

    Args:
        settings: the bench, what its file would hold, or its YAML or TOML file.
        out: folder of everything; None means the bench's own.
        only: labels or names of methods; the cells of others are not made (those that are there are gathered).
        make_cells: False makes nothing and gathers what there is.
        check: so many cells are made again, in a folder that is thrown away, and compared (see `check`); with
            `make_cells` False nothing else is made.
        records: `bench.json` of the same bench on other machines (or packed as .xz): their cells are taken first.
        took: told what came of each of them.
        progress: told (cells finished since the start, cells that were to be made then, what is being done).
        world: prompts and judge; None means the model's world.

    Returns:
        The record of all cells that are there, failed ones among them.

    Raises:
        ConfigError: mistakes in the file, or cells that were begun under other settings, here or in a record; nothing
            is begun then. Cells of another version, of which this one makes some otherwise.
        UserError: an unknown method in `only`, nothing to gather, or a check by several processes.
        StorageError: the folder cannot be written.
    """
    if check:
        runtime.one_process("a check of cells", "start it without the launcher")
    with runtime.apart():
        settings = settings if isinstance(settings, BenchSettings) else read_bench(settings)
        folder, tell = Path(out or settings.out), progress or (lambda done, total, note: None)
        check_writable(folder)
        opened = _Opened(settings)
        world = world_for(opened.model.world, opened.model.name, settings.evaluation, world)
        cells = planned_cells(settings, opened.model, world.completes, world.prompts, folder)
        chosen = chosen_cells(cells, only)
        check_begun(cells)
        for file in map(Path, records):
            taken = take(file, cells, settings, opened.model)
            if took is not None:
                took(file, taken)
        if not make_cells and not any(cell.made() for cell in cells):
            raise UserError(f"no cell of this bench is in {folder}", accepted="the folder of a bench that was begun",
                            remedy="name it with --out, or leave out --gather to make the cells")
        if make_cells:
            check_methods(chosen, opened.model)
            check_attacks(chosen, opened.model, world)
            check_protocols(settings, opened.model)
            _make_all(chosen, opened, world, settings, tell)
            ask_all(chosen, opened.model, settings, folder, tell)
        found = checked(cells, check, opened.model, world, settings, folder, tell) if check else read_check(folder)
        result = gathered(cells, settings, opened.model, found)
        refuse_apart(found, result.edits)
        write_text(folder / RESULT, result.model_dump_json() + "\n")
        tables = list(protocol_tables(cells, settings))
        if tables:
            write_text(folder / TABLES, "\n".join(tables))
        return result


class _Opened:
    """The model of a bench, in one place, so that none is left over where it is opened again."""

    def __init__(self, settings: BenchSettings) -> None:
        self._settings, self.model = settings, load(settings.source, **settings.opening)

    def again(self) -> None:
        """Open it anew, whatever was left undone in it."""
        del self.model  # not two in memory: a cell may have failed because there was no room
        self.model = load(self._settings.source, **self._settings.opening)


def _make_all(cells: Sequence[Cell], opened: _Opened, world: World, settings: BenchSettings, tell: Progress) -> None:
    """Until every cell is finished, by this process or another one."""
    failed = {cell.folder: _record(cell) for cell in cells if (edit := cell.made()) is not None and edit.failed_at}
    todo = [cell for cell in cells if not _finished(cell, failed)]
    total = len(todo)
    while todo:
        before = len(todo)
        for cell in list(todo):
            with held(cell.folder) as mine:
                if mine and not _finished(cell, failed):
                    def note(words: str, cell: Cell = cell) -> None:
                        tell(total - len(todo), total, f"{cell.name}: {words}")

                    note("begins")
                    if make(cell, opened.model, world, settings, note).failed_at:
                        opened.again()
                if mine:
                    todo.remove(cell)
            tell(total - len(todo), total, "")
        if len(todo) == before:
            tell(total - len(todo), total, f"waiting for {len(todo)} cells of other processes")
            time.sleep(PAUSE)


def _finished(cell: Cell, failed: Mapping[Path, bytes]) -> bool:
    """Whether the cell is made, or failed since this run began (then trying again at once would not help).

    Args:
        failed: the records of cells that had failed before. Times of files do not tell: clocks are set back.
    """
    edit = cell.made()
    if edit is None:
        return False
    return not edit.failed_at or failed.get(cell.folder) != _record(cell)


def _record(cell: Cell) -> bytes:
    return untrusted.content(cell.folder / CELL)
