"""The reports of what lies in the served folder, made from its records by the code that `expunge report` uses."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from expunge.errors import UserError
from expunge.records import BENCHES, EVALUATIONS, SEQUENCES
from expunge.report.bench import headline as bench_headline
from expunge.report.bench_page import bench_html
from expunge.report.html import report_html
from expunge.report.sequence import headline as sequence_headline
from expunge.report.sequence_page import sequence_html
from expunge.report.verdict import verdict
from expunge.ui.served import KINDS, Run, Served

POLICY = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'none'"
"""A report embeds all that it shows, and runs nothing."""
WORDS = {"evaluation": "How gone it is, and what it cost", "bench": "Methods compared",
         "sequence": "Requests met one after the other", "protocol": "A published protocol"}


def reports(served: Served) -> list[dict[str, Any]]:
    """A row per run: its name, kind, what it is in words, what it found in a line, and whether a page can be shown."""
    return [{"name": run.name, "kind": run.kind, "what": WORDS[run.kind], "line": _line(run),
             "page": run.kind in _PAGES} for run in served.runs().values()]


def report(served: Served, name: str) -> str:
    """The page of a run, as HTML.

    Raises:
        UserError: no such run, or one without a page; a damaged record.
    """
    run = served.run(name)
    if run.kind not in _PAGES:
        raise UserError(f"a page of the {run.kind} {run.name}", accepted=", ".join(_PAGES),
                        remedy="its numbers are in the files of its folder")
    return _PAGES[run.kind](run)


def _line(run: Run) -> str:
    """What a run found, in a line; why it cannot be read, of a damaged one."""
    return _line_of(run, (run.folder / KINDS[run.kind]).stat().st_mtime_ns)


@lru_cache(maxsize=1024)
def _line_of(run: Run, changed: int) -> str:
    try:
        if run.kind == "evaluation":
            said = EVALUATIONS.read(run.folder)
            return f"{', '.join(said.card.request.concepts)} by {said.card.method}: {verdict(said).headline}"
        if run.kind == "bench":
            return bench_headline(BENCHES.read(run.folder))
        if run.kind == "sequence":
            return sequence_headline(SEQUENCES.read(run.folder))
    except UserError as error:
        return error.got
    return ""


_PAGES: dict[str, Callable[[Run], str]] = {
    "evaluation": lambda run: report_html(EVALUATIONS.read(run.folder), run.folder),
    "bench": lambda run: bench_html(BENCHES.read(run.folder)),
    "sequence": lambda run: sequence_html(SEQUENCES.read(run.folder)),
}
