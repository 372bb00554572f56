"""`expunge bench`: methods x concepts x seeds under one protocol, from a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from expunge import untrusted
from expunge.bench.settings import BenchSettings
from expunge.cli.lists import Sentence
from expunge.cli.options import as_yaml, copy_options, dry_run_option, given, report_folder, settings_options
from expunge.cli.terminal import echo, visible_console

if TYPE_CHECKING:
    from expunge.records import BenchResult

EXAMPLES = """\b
Examples:
  $ expunge bench benchmarks/smoke.yaml
  Least elicited: [...]
  [...]
  bench: runs/bench-smoke/bench.json
  report: runs/bench-smoke/report/bench.html
\b
  $ expunge bench benchmarks/methods.yaml --only esdd
  error: no method called 'esdd' in this bench
  [...]
"""


@click.command("bench", epilog=EXAMPLES)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@settings_options(BenchSettings, files=False)
@click.option("--set", "sets", multiple=True, metavar="KEY=VALUE",
              help="Any setting by its dotted key, such as seeds=[0,1]. May be repeated.")
@click.option("--only", multiple=True, type=Sentence(), metavar="METHOD",
              help="Make only the cells of this method, by label or name. May be repeated.")
@click.option("--gather", is_flag=True, help="Make nothing; gather the cells that are there into table and report.")
@click.option("--check", type=click.IntRange(min=1), metavar="INTEGER",
              help="Make so many of the cells again, chosen by a seed, and compare: does this version still give the "
                   "bench's numbers? Nothing else is made.")
@click.option("--markdown", is_flag=True, help="Print the tables as Markdown.")
@click.option("--publish", is_flag=True, help="Let `expunge ls methods` show what this bench found.")
@copy_options
@dry_run_option
def command(file: Path, sets: tuple[str, ...], only: tuple[str, ...], gather: bool, check: int | None,
            markdown: bool, publish: bool, by: str, redact: bool, dry_run: bool, **flags: Any) -> None:
    """Erase every concept of FILE by every method with every seed; attack and measure each edit; compare.

    Every cell is kept in a folder of its own: the same command goes on where it was stopped, and makes failed cells
    again. The same command in two terminals shares the work: one process per core does more than one with two threads
    (OMP_NUM_THREADS=1).
    """
    from expunge.bench.run import RESULT, TABLES, run_bench
    from expunge.cli.output import tell
    from expunge.cli.progress import progress

    settings = BenchSettings.build(given(file, sets, flags), str(file))
    if dry_run:
        echo(_estimate(settings, only))
        return
    with progress("bench") as report:
        result = run_bench(settings, only=only, make_cells=not (gather or check), check=check or 0,
                           progress=report)
    if markdown:
        from expunge.report.bench_page import markdown as as_markdown

        echo(as_markdown(result))
    else:
        print_bench(result)
    if publish:
        from expunge.bench.publish import SHOWN, published

        tell("published", published(result, SHOWN, str(file)))
    tables = Path(settings.out) / TABLES
    if settings.protocols and tables.is_file():
        echo(untrusted.text(tables))
        tell("protocols", tables)
    tell("bench", Path(settings.out) / RESULT)
    _report(result, Path(settings.out) / report_folder(redact), by, redact)
    if any(edit.failed_at for edit in result.edits):
        raise click.exceptions.Exit(1)  # what failed is told above


def print_bench(result: BenchResult) -> None:
    """The headline, a table for all concepts together and one for each, the comparisons, and what is missing."""
    from rich.table import Table

    from expunge.report.bench import bench_tables, headline, notes
    from expunge.report.differences import difference_tables

    console = visible_console(width=None if sys.stdout.isatty() else 150)
    console.print(f"{headline(result)}\n", markup=False)
    for rows in bench_tables(result):
        table = Table(box=None, pad_edge=False, header_style="dim", title=rows.title, title_justify="left")
        for head in ("", *rows.heads):
            table.add_column(head, no_wrap=head == "method")
        for row in rows.rows:
            table.add_row(str(row.rank), row.method, *("\n".join(filter(None, (item.value, item.interval, item.count)))
                                                       for item in row.figures), row.cost, row.edits)
        console.print(table, "", markup=False)
    for pairs in difference_tables(result)[:1]:
        table = Table(box=None, pad_edge=False, header_style="dim", title=pairs.title, title_justify="left")
        for head in pairs.heads:
            table.add_column(head)
        for pair in pairs.rows:
            table.add_row(pair.words, *(f"{item.text}\n{item.says}" if item.says else item.text for item in pair.items))
        console.print(table, "", markup=False)
    for line in notes(result):
        console.print(line, style="dim", markup=False)


def _report(result: BenchResult, folder: Path, by: str, redact: bool) -> None:
    from importlib.util import find_spec

    from expunge.cli.output import tell
    from expunge.errors import install
    from expunge.report.bench_page import write_bench_report

    if find_spec("matplotlib") is None:  # hours of work are not to end in an error for want of an image
        echo(f"no report: its plots need matplotlib ({install('report')}, then the same with --gather)")
    else:
        tell("report", write_bench_report(result, folder, by=by, redact=redact))


def _estimate(settings: BenchSettings, only: tuple[str, ...]) -> str:
    """The settings as YAML (the file of the same bench), what is left and how long it takes as comments."""
    from expunge.bench.cells import check_begun, check_methods, chosen_cells, planned_cells
    from expunge.bench.forecast import estimated
    from expunge.cli.progress import span
    from expunge.detectors.choosing import world_for
    from expunge.models.store import load

    model = load(settings.source, **settings.opening)
    world = world_for(model.world, model.name, settings.evaluation)
    cells = chosen_cells(planned_cells(settings, model, world.completes, world.prompts, Path(settings.out)), only)
    check_begun(cells)
    check_methods(cells, model)
    forecast = estimated(cells, settings, model, world.prompts)
    lines = [as_yaml(settings.model_dump(mode="json")).rstrip(),
             f"# {forecast.cells} cells, {forecast.made} of them made, {forecast.failed} failed"]
    lines += [f"# {label}: not known beforehand" if seconds is None else
              f"# {label}: {span(seconds)} per edit (measured on {forecast.measured[label]})"
              for label, seconds in forecast.erase.items()]
    lines += [f"# evaluation: {forecast.pictures} images per edit, {span(forecast.evaluate)}",
              f"# attacks: at most {forecast.items} items per edit, at most {span(forecast.attack)}",
              f"# estimate: at most {span(forecast.seconds)} by one process; several share the cells"]
    return "\n".join(lines)
