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
              help="Where the report goes [default: EVALUATION/report; of a redacted copy EVALUATION/report-redacted].")
@click.option("--by", default="", metavar="TEXT", help="Who answers for the report; without it, it names nobody.")
@click.option("--redact", is_flag=True,
              help="Write a copy to hand out: without explicit or violent pictures and prompts, without the wordings "
                   "that attacks found, without names of folders.")
def command(evaluation: Path, out: Path | None, by: str, redact: bool) -> None:
    """Write the report of EVALUATION: report.html (one file, readable offline), report.json, and README.md; or of the
    sequence in that folder: sequence.html and sequence.md.

    Needs no model and draws no picture. The plots need matplotlib, which the extra `report` brings.
    """
    from expunge.cli.output import refuse_unfinished, tell
    from expunge.errors import UserError
    from expunge.records import EVALUATIONS, SEQUENCES
    from expunge.report import write_report
    from expunge.report.sequence_page import write_sequence_report

    whole = SEQUENCES.at(evaluation)
    if whole is not None:
        if by or redact:
            raise UserError(f"{'--redact' if redact else '--by'} with a sequence", accepted="with an evaluation only")
        tell("report", write_sequence_report(SEQUENCES.read(evaluation), out or whole.parent / "report"))
        return
    refuse_unfinished(evaluation)
    record, file = EVALUATIONS.read(evaluation), EVALUATIONS.at(evaluation)
    assert file is not None
    tell("report", write_report(record, file.parent, out or file.parent / ("report-redacted" if redact else "report"),
                                by=by, redact=redact))
