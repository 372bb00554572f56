"""`expunge sequence`: requests that keep coming, each met on top of those before it, in a ledger."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from expunge.cli.options import as_yaml, dry_run_option, given, settings_options
from expunge.sequence.settings import SequenceSettings

if TYPE_CHECKING:
    from expunge.records import SequenceResult

EXAMPLES = """\b
Examples:
  $ expunge sequence requests.yaml
  [...]
  ledger: runs/sequence/ledger.json
  patch: runs/sequence/states/02-bomb-[...]/patch.safetensors
  report: runs/sequence/report/sequence.html
\b
  $ expunge sequence requests.yaml --set strategy=hope
  error: requests.yaml: unknown strategy 'hope'; accepted: naive, [...]
\b
  requests.yaml:
    method: esd-fast
    strategy: replay
    requests:
      - {concept: church, anchor: house, who: rights holder, when: 2026-11-01, evidence: ticket 17}
      - {concept: bomb, anchor: apple}
"""


@click.command("sequence", epilog=EXAMPLES)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@settings_options(SequenceSettings, files=False)
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE",
              help="Any setting by its dotted key, such as holding.replay.weight=2. May be repeated.")
@click.option("--gather", is_flag=True, help="Meet nothing; gather the states that are there into table and report.")
@click.option("--markdown", is_flag=True, help="Print the tables as Markdown.")
@dry_run_option
def command(file: Path, sets: tuple[str, ...], gather: bool, markdown: bool, dry_run: bool, **flags: Any) -> None:
    """Meet the requests of FILE in their order, each by an edit on top of the last, and measure the model after each.

    The same command goes on where it was stopped, and meets requests that were added at the end of the file. A request
    that is marked `withdrawn` is taken back: the later ones are met again without it. What was asked and done is in
    ledger.json, each line of which carries the digest of the one before.
    """
    from expunge.cli.output import tell
    from expunge.cli.progress import progress
    from expunge.report.sequence_page import sequence_markdown, write_sequence_report
    from expunge.sequence.ledger import LEDGER
    from expunge.sequence.run import run_sequence

    settings = SequenceSettings.build(given(file, sets, flags), str(file))
    if dry_run:
        click.echo(_estimate(settings))
        return
    with progress("sequence") as report:
        result = run_sequence(settings, make=not gather, progress=report)
    if markdown:
        click.echo(sequence_markdown(result))
    else:
        print_sequence(result)
    folder = Path(settings.out)
    tell("ledger", folder / LEDGER)
    if result.states:
        tell("patch", folder / result.states[-1].folder / "patch.safetensors")
    tell("report", write_sequence_report(result, folder / "report"))


def refuse_unfinished(path: Path) -> None:
    """UserError for the ledger of a sequence, or the folder of one that has not ended."""
    from expunge.errors import UserError
    from expunge.records import SEQUENCES
    from expunge.sequence.ledger import LEDGER

    file = path if path.name == LEDGER else path / LEDGER
    if file.is_file() and SEQUENCES.at(file.parent) is not None:
        raise UserError(f"{file} is the ledger of a sequence", accepted=f"the sequence itself, {file.parent}")
    if file.is_file():
        raise UserError(f"a sequence was begun in {file.parent}, and has not ended",
                        accepted="a sequence that has ended",
                        remedy="`expunge sequence FILE` goes on with it, and with --gather shows what is there")


def print_sequence(result: SequenceResult) -> None:
    """The headline, the matrix, the model after each request, and how to read it."""
    from rich.console import Console
    from rich.table import Table

    from expunge.report.sequence import headline, matrix, notes, over_all, state_heads, state_rows

    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    console.print(f"{headline(result)}\n", markup=False)
    if result.before:
        table = Table(box=None, pad_edge=False, header_style="dim", title="found after", title_justify="left")
        for head in ("", *result.concepts):
            table.add_column(head, justify="left" if not head else "right")
        for row in matrix(result):
            table.add_row(row.words, *(f"[{cell.text}]" if cell.own else f"({cell.text})" if cell.to_come else cell.text
                                       for cell in row.cells))
        console.print(table, "", markup=False)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for head in state_heads(result):
        table.add_column(head)
    for state in state_rows(result):
        table.add_row(state.words, *("\n".join(filter(None, (item.value, item.interval))) for item in state.figures))
    console.print(table, "", markup=False)
    for title, figure, note in over_all(result):
        console.print(f"{title}: {figure.line}" + (f" ({note})" if note else ""), markup=False)
    for line in notes(result):
        console.print(line, style="dim", markup=False)


def _estimate(settings: SequenceSettings) -> str:
    """The settings as YAML (the file of the same sequence), what is left and how long edits take as comments."""
    from expunge.cli.progress import span
    from expunge.metrics.worlds import world_of
    from expunge.models.store import load
    from expunge.sequence.ledger import check_met
    from expunge.sequence.run import checked_ledger
    from expunge.sequence.states import planned_states
    from expunge.unlearn.method import Configured

    model, folder = load(settings.model, device=settings.device), Path(settings.out)
    own = settings.evaluation
    world = world_of(model.world, model.name, *(
        (own.clip, own.prompts, own.add_templates, own.margin, own.default_role) if own else ()))
    ledger = checked_ledger(settings, model, folder)
    states = planned_states(settings, model, world, folder) if settings.active else []
    check_met(ledger, states, folder)
    lines = [as_yaml(settings.model_dump(mode="json")).rstrip(), f"# strategy {settings.strategy} in full:"]
    lines += [f"#   {line}" for line in as_yaml(settings.chosen.model_dump(mode="json")).splitlines()]
    lines += [f"# request {number} ({item.title}): withdrawn" for number, item in enumerate(settings.requests, 1)
              if item.withdrawn is not None]
    for state in states:
        if (state.folder / "patch.safetensors").is_file():
            took = "met"
        elif isinstance(state.method, Configured):
            asked = state.whole if settings.chosen.joint else state.request
            more = ", and what holds on to earlier ones" if settings.chosen.holds else ""
            took = f"{span(state.method.estimate(model, asked)['seconds'])}{more}"
        else:
            took = "not known beforehand"
        lines.append(f"# request {state.number} ({state.asked.title}): {took}")
    return "\n".join(lines)
