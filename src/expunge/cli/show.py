"""`expunge show`: what is in a patch, an evaluation, a suite of attacks, a bench or a sequence."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from expunge.cli.output import MEASURED
from expunge.cli.patch_name import PatchName
from expunge.cli.terminal import echo

if TYPE_CHECKING:
    from expunge.records.stored import Stored

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
@click.argument("path", type=PatchName())
@click.option("--json", "as_json", is_flag=True, help="The whole record as JSON.")
@click.option("--verify", is_flag=True,
              help="Of a patch: read its tensors, too, and hash them; a damaged one is refused.")
def command(path: Path, as_json: bool, verify: bool) -> None:
    """Show what is in a patch, an evaluation, a suite of attacks, a bench or a sequence (its folder, or the record in
    it).

    Only records are read: of a patch its card, and its tensors with --verify.
    """
    from expunge.cli.bench import print_bench
    from expunge.cli.options import as_yaml
    from expunge.cli.output import (
        card_lines,
        print_evaluation,
        print_relearning,
        print_sequence,
        print_suite,
        refuse_unfinished,
    )
    from expunge.errors import UserError
    from expunge.records import (
        BENCHES,
        EVALUATIONS,
        RELEARNINGS,
        SEQUENCES,
        SUITE_RESULTS,
        Record,
        SuiteResult,
        read_card,
    )

    def attacked(suite: SuiteResult) -> None:
        print_suite(suite)
        if RELEARNINGS.at(path) is not None:
            echo()
            print_relearning(RELEARNINGS.read(path))

    kinds: tuple[tuple[Stored[Any], Callable[[Any], None]], ...] = (
        (SUITE_RESULTS, attacked), (RELEARNINGS, print_relearning),
        (EVALUATIONS, partial(print_evaluation, every=True)), (BENCHES, print_bench),
        (SEQUENCES, print_sequence))
    for stored, show in kinds:
        if stored.at(path) is not None:
            record: Record = stored.read(path)
            if as_json:
                echo(record.model_dump_json(indent=2))
            else:
                show(record)
            return
    refuse_unfinished(path)
    if not path.exists() or (path.is_dir() and not (path / "patch.safetensors").is_file()):
        known = ", ".join(f"{stored.what} ({stored.name})" for stored, _ in kinds)
        below = sorted(file.parent for stored, _ in kinds for file in path.glob(f"*/{stored.name}"))
        raise UserError(f"nothing at {path}" if not path.exists() else f"no record in {path}",
                        accepted=f"a folder with a patch (patch.safetensors), {known}, or one of these files",
                        remedy=f"there is one in {below[0]}" if below else "")
    if verify:
        from expunge.models.patch import Patch

        card = Patch.load(path).card
    else:
        card = read_card(path)
    echo(card.model_dump_json(indent=2) if as_json else as_yaml(card_lines(card)).rstrip())
