"""`expunge bench`: methods x concepts x seeds under one protocol, from a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from expunge import untrusted
from expunge.bench.settings import BenchSettings
from expunge.cli.lists import Name, Sentence
from expunge.cli.options import (
    as_yaml,
    assignment,
    copy_options,
    dry_run_option,
    given,
    report_folder,
    settings_options,
)
from expunge.cli.terminal import echo, visible_console
from expunge.errors import UserError

if TYPE_CHECKING:
    from expunge.bench.taken import Taken
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
@click.option("--take", "records", multiple=True, type=Name(), metavar="RECORD",
              help="Count the cells of this record (bench.json, or packed as .xz) of the same bench on another machine "
                   "as made. Cells that were made under other settings are refused. May be repeated.")
@click.option("--markdown", is_flag=True, help="Print the tables as Markdown.")
@click.option("--publish", is_flag=True, help="Let `expunge ls methods` show what this bench found.")
@click.option("--submit", "workers", type=click.IntRange(min=1), metavar="INTEGER",
              help="Start so many workers, which share the cells. Needs the extra fleet.")
@click.option("--cluster", type=click.Choice(["local", "slurm"]), default="local", show_default=True,
              help="Where they run: on this machine (waits for them), or as Slurm jobs (returns at once).")
@click.option("--job", "job", multiple=True, metavar="KEY=VALUE",
              help="A parameter of submitit's executor, such as timeout_min=600 or slurm_partition=gpu. May be "
                   "repeated.")
@copy_options
@dry_run_option
def command(file: Path, sets: tuple[str, ...], only: tuple[str, ...], gather: bool, check: int | None,
            records: tuple[str, ...], workers: int | None, cluster: str, job: tuple[str, ...], markdown: bool,
            publish: bool, by: str, redact: bool, dry_run: bool, **flags: Any) -> None:
    """Erase every concept of FILE by every method with every seed; attack and measure each edit; compare.

    Every cell is kept in a folder of its own: the same command goes on where it was stopped, and makes failed cells
    again. The same command in two terminals, or under a launcher of several processes, shares the work: one process per
    core does more than one with two threads (OMP_NUM_THREADS=1).
    """
    from expunge import runtime
    from expunge.bench.run import run_bench
    from expunge.cli.progress import progress

    settings = BenchSettings.build(given(file, sets, flags), str(file))
    if dry_run and records:
        raise UserError("--take beside --dry-run", accepted="one of them",
                        remedy="take the records with --gather first: what is left is then what they lack")
    if dry_run:
        echo(_estimate(settings, only))
        return
    if workers is None and (job or cluster != "local"):
        raise UserError("--job or --cluster without --submit", accepted="--submit WORKERS beside them")
    if workers is not None and (gather or check or records):
        raise UserError("--submit with --gather, --check or --take", accepted="--submit alone",
                        remedy="take records first, by --gather; workers make what is left")
    if workers is not None and not _worked(settings, workers, only, cluster, job):
        return
    gather = gather or workers is not None
    with progress("bench") as report:
        result = run_bench(settings, only=only, make_cells=not (gather or check), check=check or 0, records=records,
                           took=_tell_taken, progress=report)
    failed = any(edit.failed_at for edit in result.edits)
    if runtime.first():
        _tell(result, settings, file, markdown, publish, by, redact)
    if failed:
        raise click.exceptions.Exit(1)  # what failed is told above


def _tell(result: BenchResult, settings: BenchSettings, file: Path, markdown: bool, publish: bool, by: str, redact: bool
          ) -> None:
    """Tables, record, report."""
    from expunge.bench.run import RESULT, TABLES
    from expunge.cli.output import tell

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


def _worked(settings: BenchSettings, workers: int, only: tuple[str, ...], cluster: str, job: tuple[str, ...]) -> bool:
    """Start workers; whether they have ended, so that their cells can be gathered."""
    from expunge.bench.fleet import FILE, FLEET, submit, wait
    from expunge.cli.progress import progress

    out = Path(settings.out)
    jobs = submit(as_yaml(settings.model_dump(mode="json")), workers, out=out, only=only, cluster=cluster,
                  parameters=dict(assignment(text, "--job") for text in job))
    echo(f"workers: {', '.join(job.job_id for job in jobs)} (logs in {out / FLEET})", err=True)
    if cluster != "local":
        echo(f"next: expunge bench {out / FLEET / FILE} --out {out} --gather")
        return False
    with progress("bench") as report:
        wait(jobs, settings, out, report)
    return True


def _tell_taken(file: Path, taken: Taken) -> None:
    """What came of a record, in a line."""
    others = ((taken.here, "begun here already"), (taken.failed, "failed there"), (taken.strange, "not in this bench"))
    left = "; ".join(f"{len(names)} {why}" for names, why in others if names)
    echo(f"taken from {file}: {len(taken.cells)} cells{f' (left out: {left})' if left else ''}", err=True)


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
    from expunge import runtime
    from expunge.bench.cells import check_attacks, check_begun, check_methods, chosen_cells, planned_cells
    from expunge.bench.forecast import estimated
    from expunge.bench.protocols import check_protocols
    from expunge.cli.progress import span
    from expunge.detectors.choosing import world_for
    from expunge.models.store import load

    model = load(settings.source, **settings.opening)
    world = world_for(model.world, model.name, settings.evaluation)
    cells = chosen_cells(planned_cells(settings, model, world.completes, world.prompts, Path(settings.out)), only)
    check_begun(cells)
    check_methods(cells, model)
    check_attacks(cells, model, world)
    check_protocols(settings, model)
    with runtime.apart():  # a cell is made by one process
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
