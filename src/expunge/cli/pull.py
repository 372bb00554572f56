"""`expunge pull`: a patch from the Hugging Face Hub into a folder."""

from __future__ import annotations

from pathlib import Path

import click

EXAMPLES = """\b
Examples:
  $ expunge pull hf://someone/no-church@v1 --out runs/no-church
  patch: runs/no-church
\b
  $ expunge pull hf://someone
  error: 'hf://someone' as a patch on the Hub
    accepted: hf://OWNER/NAME or hf://OWNER/NAME@REVISION
"""


@click.command("pull", epilog=EXAMPLES)
@click.argument("name")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER",
              help="Where it goes [default: runs/OWNER-NAME-COMMIT].")
def command(name: str, out: Path | None) -> None:
    """Download the patch NAME, hf://OWNER/NAME or hf://OWNER/NAME@REVISION: its tensors and its card, nothing else.

    Every verb that takes a patch takes such a name, too.
    """
    from expunge.cli.output import tell
    from expunge.models.hub import SCHEME, brought
    from expunge.models.patch import Patch

    folder = brought(name if name.startswith(SCHEME) else f"{SCHEME}{name}", out)
    Patch.load(folder)  # a damaged one is told now
    tell("patch", folder)
