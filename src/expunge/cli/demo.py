"""`expunge demo`: the main job on the embedded model."""

from __future__ import annotations

from pathlib import Path

import click

from expunge.cli.output import MEASURED
from expunge.cli.terminal import echo

EXAMPLES = f"""\b
Examples:
  $ expunge demo
  castle, near and far things by the original model: runs/demo/first-look.png
  the same, and below it by the edited model: runs/demo/first-look.png
{MEASURED}\
  patch: runs/demo/patch.safetensors
  report: runs/demo/report/report.html
\b
  $ expunge demo --concept chruch
  error: unknown concept 'chruch' (did you mean 'church'?)
"""


@click.command("demo", epilog=EXAMPLES)
@click.option("--concept", default="castle", show_default=True, metavar="NAME",
              help="A thing or style of the embedded world: see `expunge ls concepts`.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, metavar="INTEGER",
              help="Seed of the training.")
@click.option("--smoke", is_flag=True, help="Few steps and few images: do all parts work together?")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("runs/demo"), show_default=True,
              metavar="FOLDER", help="Where everything goes; a run that was stopped goes on from there.")
def command(concept: str, seed: int, smoke: bool, out: Path) -> None:
    """Erase a concept from the embedded model, attack what is left, measure how gone it is, and write the report.

    Downloads nothing.
    """
    from expunge.cli.output import print_evaluation, tell
    from expunge.cli.progress import progress, span
    from expunge.demo import demo
    from expunge.locks import alone

    with alone(out):
        made = demo(concept, out, smoke=smoke, seed=seed, stage=progress, look=tell)
    if smoke:
        echo("smoke run: the scores below mean nothing")
    print_evaluation(made.evaluation)
    echo("time: " + ", ".join(f"{name} {span(seconds)}" for name, seconds in made.seconds.items()))
    tell("patch", made.patch / "patch.safetensors")
    tell("report", made.report)
