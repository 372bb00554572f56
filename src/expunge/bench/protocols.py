"""Published protocols in a bench: every whole edit is asked, and the methods stand side by side in a table for each.

    value of a method      mean over its edits, with the least and the most of them, and n of all images
    the original's         of the first edit's run, where it was asked the same

The original is drawn and judged once for each protocol, in `originals/` of the bench, whatever the number of edits.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from expunge.bench.cells import Cell
from expunge.bench.settings import BenchProtocol, BenchSettings
from expunge.files import slug
from expunge.locks import held
from expunge.models.model import Model
from expunge.models.patch import Patch
from expunge.protocols.plan import planned
from expunge.protocols.run import check_same_run, draw_original, run_protocol, shares
from expunge.protocols.schema import Protocol, read_protocol
from expunge.records import PROTOCOLS, Score
from expunge.records.protocol import ProtocolResult
from expunge.resume import kept
from expunge.runtime import Progress
from expunge.unlearn.erase import PATCH

ORIGINALS = "originals"
PAUSE = 2.0
"""Seconds between two looks at what another process does."""


def ask_all(cells: Sequence[Cell], model: Model, settings: BenchSettings, folder: Path, tell: Progress) -> None:
    """Run every protocol on every whole edit that was not asked yet, until all are, by this process or another one.

    Args:
        folder: the bench's.

    Raises:
        UserError: a file that a protocol needs is missing or another one; a result of another list, other settings or
            another protocol lies where this one's belongs.
    """
    todo = [(cell, one) for one in settings.protocols for cell in cells if _whole(cell)]
    total = len(todo)
    while todo:
        before = len(todo)
        for cell, one in list(todo):
            with held(cell.folder) as mine:
                if not mine:
                    continue
                def note(count: int, most: int, words: str, done: int = total - len(todo), cell: Cell = cell) -> None:
                    tell(done, total, f"{cell.name}: {words} {count}/{most}")

                _ask(cell, one, model, folder, note)
                todo.remove((cell, one))
        if len(todo) == before:
            tell(total - len(todo), total, f"waiting for protocols of {len(todo)} cells at other processes")
            time.sleep(PAUSE)


def _ask(cell: Cell, one: BenchProtocol, model: Model, folder: Path, tell: Progress) -> None:
    """One protocol of one cell, which this process holds, unless it was asked."""
    patch = kept(Patch.load, cell.folder, PATCH)
    if patch is None:
        return
    files = {role: Path(path) for role, path in one.files.items()}
    protocol, out = read_protocol(one.protocol), folder_of(cell, one)
    shared = folder / ORIGINALS / out.name if shares(out) else None  # a run that was begun alone goes on alone
    found = kept(PROTOCOLS.read, out, PROTOCOLS.name)
    if found is not None and found.patch_hash == patch.hash:
        check_same_run(model, protocol, patch, settings=one.run, out=out, files=files, original=shared)
        return
    if shared is not None:
        _draw_original(model, protocol, one, files, shared, tell)
    run_protocol(model, protocol, patch, settings=one.run, out=out, files=files, original=shared, progress=tell)


def check_protocols(settings: BenchSettings, model: Model) -> None:
    """What would end every protocol's run, before anything is made.

    Raises:
        UserError, ConfigError: as `planned`.
    """
    for one in settings.protocols:
        planned(read_protocol(one.protocol), {role: Path(path) for role, path in one.files.items()}, one.run, model)


def _draw_original(model: Model, protocol: Protocol, one: BenchProtocol, files: Mapping[str, Path], out: Path,
                   tell: Progress) -> None:
    """Once, by the process that comes first; others wait for it."""
    while True:
        with held(out) as mine:
            if mine:
                draw_original(model, protocol, settings=one.run, out=out, files=files, progress=tell)
                return
        tell(0, 1, "waiting for the original's images, which another process draws")
        time.sleep(PAUSE)


def folder_of(cell: Cell, one: BenchProtocol) -> Path:
    """Where a protocol's result for a cell lies."""
    return cell.folder / f"protocol-{slug(one.title)}"


def protocol_tables(cells: Sequence[Cell], settings: BenchSettings) -> Iterator[str]:
    """A Markdown table for each protocol that some edit was asked."""
    for one in settings.protocols:
        results = [(cell, found) for cell in cells
                   if (found := kept(PROTOCOLS.read, folder_of(cell, one), PROTOCOLS.name)) is not None]
        if results:
            yield _table(results, one.label)


def _table(results: Sequence[tuple[Cell, ProtocolResult]], label: str) -> str:
    first = results[0][1]
    lines = [f"### {f'{label} ({first.protocol})' if label else first.protocol}", "",
             f"{first.title}. Source: {first.source}.", ""]
    if any(result.test_only for _, result in results):
        return "\n".join([*lines, "A stand-in took part: its numbers mean nothing and are not given.", ""])
    names = [score.name for score in first.scores if not score.name.startswith("original/")]
    titles = [first.score(name).title or name for name in names]
    lines += [f"| method | edits | {' | '.join(titles)} |", f"| --- | --- |{' --- |' * len(names)}"]
    original = [next((score for score in first.scores if score.name == f"original/{name}"), None) for name in names]
    lines.append(f"| none (the original) | | {' | '.join(_cell([one] if one else []) for one in original)} |")
    for method in dict.fromkeys(cell.method.title for cell, _ in results):
        mine = [result for cell, result in results if cell.method.title == method]
        cells = [_cell([result.score(name) for result in mine]) for name in names]
        lines.append(f"| {method} | {len(mine)} | {' | '.join(cells)} |")
    lines += ["", "A value is the mean over edits, with the least and the most of them."]
    if first.deviations:
        lines.append(f"Not as the protocol says: {'; '.join(first.deviations)}.")
    return "\n".join([*lines, ""])


def _cell(scores: Sequence[Score]) -> str:
    values = [score.value for score in scores if score.value is not None]
    if not values:
        return "not measured"
    rate = all(score.numerator is not None and "detections" not in score.of for score in scores)
    show = (lambda x: f"{x:.1%}") if rate else (lambda x: f"{x:.4g}")
    n = sum(score.n for score in scores)
    if len(scores) == 1:
        ends = f" ({show(scores[0].low)} to {show(scores[0].high)})" if scores[0].low is not None \
            and scores[0].high is not None else ""
        return f"{show(values[0])}{ends}, n {n}"
    return f"{show(sum(values) / len(values))} ({show(min(values))} to {show(max(values))}), n {n}"


def _whole(cell: Cell) -> bool:
    """Whether it is made, here: a cell that was taken from a record has no patch to ask."""
    edit = cell.made()
    return edit is not None and not edit.failed_at and not edit.taken_from
