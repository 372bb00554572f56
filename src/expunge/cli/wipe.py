"""`expunge wipe`: take out of a protocol's folder what must not be kept."""

from __future__ import annotations

from pathlib import Path

import click

from expunge.cli.terminal import echo

EXAMPLES = """\b
Examples:
  $ expunge wipe runs/nudity/protocol-i2p-sexual --texts
  gone: 1862 images, the texts of 931 rows and 0 attempts; numbers and hashes stay
\b
  $ expunge wipe runs/nudity
  error: no protocol's result at runs/nudity
    accepted: a folder with protocol.json
"""


@click.command("wipe", epilog=EXAMPLES)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--texts", is_flag=True, help="The prompts as well: rows stand by number and hash.")
@click.option("--due", is_flag=True, help="Images and prompts of every run in FOLDER, at any depth, whose days "
                                          "(--keep-days) are over; of no other.")
def command(folder: Path, texts: bool, due: bool) -> None:
    """Delete the images of a protocol's result in FOLDER. Numbers, answers and hashes stay."""
    from expunge.protocols import wipe as wiping

    if not due:
        echo(f"gone: {_gone(wiping.wipe(folder, texts))}")
        return
    runs = wiping.due(folder)
    for run in runs:
        echo(f"{run}: gone: {_gone(wiping.wipe(run, texts=True))}")
    if not runs:
        echo(f"nothing in {folder} is due")


def _gone(gone: dict[str, int]) -> str:
    from expunge.records import counted

    return f"{counted(gone['images'], 'images')}, the texts of {counted(gone['rows'], 'rows')} and " \
           f"{counted(gone['attempts'], 'attempts')}; numbers and hashes stay"
