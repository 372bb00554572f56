"""`expunge show`: what is in a patch, an evaluation, a suite of attacks or a sequence."""

from __future__ import annotations

from pathlib import Path

import click

from expunge.cli.output import MEASURED

EXAMPLES = f"""\b
Examples:
  $ expunge show runs/church
  concept: church
  anchor: (nothing in particular)
  prompts:
  - a drawing of a church, black and white, pink backdrop
  - an emoji of a church
  [...]
\b
  $ expunge show runs/demo/evaluation
{MEASURED}"""


@click.command("show", epilog=EXAMPLES)
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="The whole record as JSON.")
def command(path: Path, as_json: bool) -> None:
    """Show what is in a patch, an evaluation, a suite of attacks or a sequence (a folder, or a file in it)."""
    from expunge.cli.options import as_yaml
    from expunge.cli.output import card_lines, print_assault, print_evaluation, print_relearning
    from expunge.records import ASSAULTS, EVALUATIONS, RELEARNINGS, SEQUENCES

    if ASSAULTS.at(path) is not None:
        assault = ASSAULTS.read(path)
        if as_json:
            click.echo(assault.model_dump_json(indent=2))
        else:
            print_assault(assault)
            if RELEARNINGS.at(path) is not None:
                click.echo()
                print_relearning(RELEARNINGS.read(path))
        return
    if RELEARNINGS.at(path) is not None:
        made = RELEARNINGS.read(path)
        if as_json:
            click.echo(made.model_dump_json(indent=2))
        else:
            print_relearning(made)
        return
    if EVALUATIONS.at(path) is not None:
        evaluation = EVALUATIONS.read(path)
        if as_json:
            click.echo(evaluation.model_dump_json(indent=2))
        else:
            print_evaluation(evaluation, every=True)
        return
    if SEQUENCES.at(path) is not None:
        from expunge.cli.sequence import print_sequence

        sequence = SEQUENCES.read(path)
        if as_json:
            click.echo(sequence.model_dump_json(indent=2))
        else:
            print_sequence(sequence)
        return
    from expunge.errors import UserError
    from expunge.models.patch import Patch

    if not path.exists():
        raise UserError(f"nothing at {path}",
                        accepted="a patch, an evaluation, a suite of attacks or a sequence: a folder, or a file in it")
    card = Patch.load(path).card
    click.echo(card.model_dump_json(indent=2) if as_json else as_yaml(card_lines(card)).rstrip())
