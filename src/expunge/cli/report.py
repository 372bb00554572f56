"""`expunge report`: an evaluation, a bench or a sequence of requests, as a page for people and as text for others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from expunge.cli.options import copy_options, report_folder

if TYPE_CHECKING:
    from expunge.records.stored import Stored

EXAMPLES = """\b
Examples:
  $ expunge report runs/church/evaluation
  report: runs/church/evaluation/report/report.html
\b
  $ expunge report runs/nothing
  error: no evaluation at runs/nothing
    accepted: a folder with evaluation.json
    make one with `expunge evaluate PATCH`
"""


@click.command("report", epilog=EXAMPLES)
@click.argument("evaluation", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER",
              help="Where the report goes [default: EVALUATION/report; of a redacted copy EVALUATION/report-redacted].")
@copy_options
def command(evaluation: Path, out: Path | None, by: str, redact: bool) -> None:
    """Write the report of EVALUATION: report.html (one file, readable offline), report.json, and README.md; or of the
    bench or the sequence in that folder: bench.html and bench.md, sequence.html and sequence.md.

    Needs no model and draws no image. The plots need matplotlib, which the extra `report` brings.
    """
    from expunge.cli.output import refuse_unfinished, tell
    from expunge.locks import alone
    from expunge.records import BENCHES, EVALUATIONS, SEQUENCES
    from expunge.report import write_report
    from expunge.report.bench_page import write_bench_report
    from expunge.report.sequence_page import write_sequence_report

    kinds: tuple[tuple[Stored[Any], Callable[..., Path]], ...] = (
        (SEQUENCES, write_sequence_report), (BENCHES, write_bench_report))
    for stored, write in kinds:
        whole = stored.at(evaluation)
        if whole is not None:
            folder = out or whole.parent / report_folder(redact)
            with alone(folder):
                tell("report", write(stored.read(evaluation), folder, by=by, redact=redact))
            return
    refuse_unfinished(evaluation)
    record, file = EVALUATIONS.read(evaluation), EVALUATIONS.at(evaluation)
    assert file is not None
    tell("report", write_report(record, file.parent, out or file.parent / report_folder(redact), by=by, redact=redact))
