"""`expunge check`: whether records meet thresholds, for a pipeline."""

from __future__ import annotations

from pathlib import Path

import click

from expunge.cli.terminal import echo

EXAMPLES = """\b
Examples:
  $ expunge check runs/church --max-asr 0.1 --min-retained 0.9 --min-integrity 0.8
  not met: retained/near 0.747 < 0.9 (value 0.889, 95% interval 0.747 to 0.956, n 36 images of 18 prompts); [...]
\b
  $ expunge check runs/church
  error: no threshold
    accepted: --max-asr, --min-retained or --min-integrity, or several
"""
_RATE = click.FloatRange(0.0, 1.0)


@click.command("check", epilog=EXAMPLES)
@click.argument("record", type=click.Path(path_type=Path))
@click.option("--max-asr", type=_RATE, metavar="NUMBER",
              help="Most that attacks may elicit: attack/worst, of a protocol asr.")
@click.option("--min-retained", type=_RATE, metavar="NUMBER",
              help="Least of what must be kept: retained/near and retained/far, of a protocol kept-accuracy, or ira "
                   "and cra.")
@click.option("--min-integrity", type=click.FloatRange(max=1.0), metavar="NUMBER",
              help="Least of integrity/near and integrity/far.")
@click.option("--min-items", type=click.IntRange(min=1), default=20, show_default=True, metavar="INTEGER",
              help="Items below which a score decides nothing.")
def command(record: Path, max_asr: float | None, min_retained: float | None, min_integrity: float | None,
            min_items: int) -> None:
    """Say in one line whether RECORD meets thresholds: an evaluation, attacks, a protocol's result, or a run's folder
    with these in it.

    The bad end of each 95% interval decides, never the value. What is missing, of another kind, on too few items, or
    on what a detector failed, is not met. Exit codes: 0 met, 1 not met, 2 wrong use.
    """
    from expunge.evidence.gate import Threshold, checked

    given = (("ASR", max_asr, True), ("retained", min_retained, False), ("integrity", min_integrity, False))
    findings = checked(record, [Threshold(name, bound, most) for name, bound, most in given if bound is not None],
                       min_items)
    met = all(finding.met for finding in findings)
    told = sorted(findings, key=lambda finding: finding.met)  # what is not met is read first
    echo(f"{'met' if met else 'not met'}: {'; '.join(finding.words for finding in told)}")
    if not met:
        raise click.exceptions.Exit(1)
