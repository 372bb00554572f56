"""`expunge sequence`: sequential unlearning; each request met on top of those before it, in a ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from expunge.cli.options import as_yaml, copy_options, dry_run_option, given, report_folder, settings_options
from expunge.cli.terminal import echo
from expunge.sequence.settings import SequenceSettings

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
@copy_options
@dry_run_option
def command(file: Path, sets: tuple[str, ...], gather: bool, markdown: bool, by: str, redact: bool, dry_run: bool,
            **flags: Any) -> None:
    """Meet the requests of FILE in their order, each by an edit on top of the last, and measure the model after each.

    The same command goes on where it was stopped, and meets requests that were added at the end of the file. A request
    that is marked `withdrawn` is taken back: the later ones are met again without it. What was asked and done is in
    ledger.json, each line of which carries the digest of the one before.
    """
    from expunge.cli.output import print_sequence, tell
    from expunge.cli.progress import progress
    from expunge.report.sequence_page import sequence_markdown, write_sequence_report
    from expunge.sequence.ledger import LEDGER
    from expunge.sequence.run import run_sequence

    settings = SequenceSettings.build(given(file, sets, flags), str(file))
    if dry_run:
        echo(_estimate(settings))
        return
    with progress("sequence") as report:
        result = run_sequence(settings, make=not gather, progress=report)
    if markdown:
        echo(sequence_markdown(result))
    else:
        print_sequence(result)
    folder = Path(settings.out)
    tell("ledger", folder / LEDGER)
    if result.states:
        tell("patch", folder / result.states[-1].folder / "patch.safetensors")
    tell("report", write_sequence_report(result, folder / report_folder(redact), by=by, redact=redact))


def _estimate(settings: SequenceSettings) -> str:
    """The settings as YAML (the file of the same sequence), what is left and how long edits take as comments."""
    from expunge.cli.progress import span
    from expunge.detectors.choosing import world_for
    from expunge.evaluation import EvaluateSettings
    from expunge.models.store import load
    from expunge.sequence.ledger import check_met
    from expunge.sequence.run import checked_ledger
    from expunge.sequence.states import planned_states
    from expunge.unlearn.method import Configured

    model, folder = load(settings.source, **settings.opening), Path(settings.out)
    own = settings.evaluation
    world = world_for(model.world, model.name, own or EvaluateSettings())
    ledger = checked_ledger(settings, model, folder)
    states = planned_states(settings, model, world.completes, folder) if settings.active else []
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
            estimate = state.method.estimate(model, asked)
            took = f"{span(estimate['seconds'])}{more} (measured on {estimate['measured']})"
        else:
            took = "not known beforehand"
        lines.append(f"# request {state.number} ({state.asked.title}): {took}")
    return "\n".join(lines)
