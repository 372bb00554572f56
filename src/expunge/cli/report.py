"""`expunge report`: an evaluation, or a sequence of requests, as a page for people and as text for others."""

from __future__ import annotations

from pathlib import Path

import click

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
              help="Where the report goes [default: EVALUATION/report].")
def command(evaluation: Path, out: Path | None) -> None:
    """Write the report of EVALUATION: report.html (one file, readable offline), report.json, and README.md; or of the
    sequence in that folder: sequence.html and sequence.md.

    Needs no model and draws no picture. The plots need matplotlib: pip install 'expunge[report]'.
    """
    from expunge.cli.output import refuse_unfinished, tell
    from expunge.records import EVALUATIONS, SEQUENCES
    from expunge.report import write_report
    from expunge.report.sequence_page import write_sequence_report

    whole = SEQUENCES.at(evaluation)
    if whole is not None:
        tell("report", write_sequence_report(SEQUENCES.read(evaluation), out or whole.parent / "report"))
        return
    refuse_unfinished(evaluation)
    record, file = EVALUATIONS.read(evaluation), EVALUATIONS.at(evaluation)
    assert file is not None
    tell("report", write_report(record, file.parent, out or file.parent / "report"))
