"""Does this version still give a bench's numbers? A few of its cells, chosen by a seed, made again and compared.

A cell is made again from nothing, its images too, in a folder that is thrown away. Two numbers agree where they are
equal or one lies in the other's interval: another library rounds otherwise, and training carries that on.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from expunge import runtime, untrusted
from expunge.bench.cells import Cell
from expunge.bench.make import make
from expunge.bench.settings import BenchSettings
from expunge.errors import ConfigError, UserError
from expunge.files import write_json
from expunge.metrics.worlds import World
from expunge.models.model import Model
from expunge.records import BenchCheck, CheckedCell, Edit, Score
from expunge.scratch import beside

CHECK = "check.json"


def checked(cells: Sequence[Cell], count: int, model: Model, world: World, settings: BenchSettings,
            folder: Path, tell: Callable[[int, int, str], None], seed: int = 0) -> BenchCheck:
    """Make `count` of the cells again, and write what came of it to `<folder>/check.json`.

    Args:
        cells: of the bench; those of other versions are chosen from first.
        tell: told (cells made again, in all, what is being done).
        seed: of the choice.

    Raises:
        UserError: fewer cells than that are made and whole.
    """
    now = runtime.versions()
    whole = [(cell, edit) for cell in cells if (edit := cell.made()) is not None and not edit.failed_at]
    if not 1 <= count <= len(whole):
        raise UserError(f"a check of {count} cells", accepted=f"1 to {len(whole)}, as many as are made and whole")
    random.Random(seed).shuffle(whole)
    whole.sort(key=lambda pair: pair[1].versions == now)  # stable: of each kind in the drawn order
    made = []
    for number, (cell, before) in enumerate(whole[:count]):
        def note(words: str, cell: Cell = cell, number: int = number) -> None:
            tell(number, count, f"again: {cell.name}: {words}")

        with beside(folder / "check") as scratch:
            place = scratch / "cells" / Path(*cell.folder.parts[-3:])
            anew = settings.model_copy(update={"cache": str(scratch / "pictures")})
            after = make(replace(cell, folder=place), model, world, anew, note)
        if after.failed_at:
            raise UserError(f"{cell.name} failed at {after.failed_at} when it was made again: {after.failure}",
                            accepted="a cell that this version can make")
        made.append(compared_cell(cell.name, before, after))
    check = BenchCheck(cells=tuple(made), seed=seed, versions=now, machine=runtime.machine(model.device),
                       created=datetime.now(timezone.utc).isoformat(timespec="seconds"))
    write_json(folder / CHECK, check.model_dump(mode="json"))
    return check


def compared_cell(name: str, before: Edit, after: Edit) -> CheckedCell:
    """The scores of a cell beside those of the same cell made again; what only one of them has differs."""
    mine, theirs = ({score.name: score for score in edit.scores} for edit in (before, after))
    names = list(dict.fromkeys([*mine, *theirs]))
    odd = [key for key in names if key not in mine or key not in theirs or not agree(mine[key], theirs[key])]
    return CheckedCell(
        name=name, versions=before.versions, patch_same=before.patch_hash == after.patch_hash, scores=len(names),
        equal=sum(key in mine and key in theirs and mine[key].value == theirs[key].value for key in names),
        apart=tuple(f"{key}: {_told(mine.get(key))}, again {_told(theirs.get(key))}" for key in odd))


def agree(a: Score, b: Score) -> bool:
    """Whether two values are equal, or either lies in the other's interval."""
    if a.value is None or b.value is None:
        return a.value is b.value
    inside = [one.low is not None and one.high is not None and one.low <= other <= one.high
              for one, other in ((a, b.value), (b, a.value))]
    return a.value == b.value or any(inside)


def read_check(folder: Path) -> BenchCheck | None:
    """What the last check found; None if there was none.

    Raises:
        ConfigError: the file is damaged.
    """
    file = folder / CHECK
    if not file.is_file():
        return None
    try:
        return BenchCheck.read(untrusted.text(file))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read: {error}", remedy="delete it, and check again") from error


def refuse_apart(check: BenchCheck | None, edits: Sequence[Edit]) -> None:
    """Raise ConfigError if cells of another version stand in the bench, and this version made them again otherwise."""
    now = runtime.versions()
    if check is None or check.versions != now or all(edit.versions == now for edit in edits):
        return
    odd = [cell for cell in check.cells if cell.apart and cell.versions != now]
    if odd:
        which = "; ".join(f"{cell.name} ({', '.join(cell.apart[:3])}{', ...' if cell.apart[3:] else ''})"
                          for cell in odd[:3])
        raise ConfigError(f"{len(odd)} of {len(check.cells)} cells of another version came out otherwise when they "
                          f"were made again: {which}", accepted="cells that this version makes alike",
                          remedy="choose another output folder to make the bench again, or gather it with the version "
                                 "that made it")


def _told(score: Score | None) -> str:
    return "not there" if score is None else "none" if score.value is None else f"{score.value:.4g}"
