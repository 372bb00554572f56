"""`expunge score`: images that somebody else drew, by a protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from expunge.cli.protocols import Asked, print_result, protocol_options, write_tables
from expunge.errors import UserError

EXAMPLES = """\b
Examples:
  $ expunge score images --protocol i2p-sexual --list images.csv --file prompts=i2p.csv
  i2p-sexual: [...]
  [...]
  protocol: runs/score-i2p-sexual/protocol.json
\b
  $ expunge score images
  error: no protocol
    accepted: --protocol NAME
    `expunge ls protocols` lists them
"""


@click.command("score", epilog=EXAMPLES)
@click.argument("folder", type=click.Path(path_type=Path))
@protocol_options
@click.option("--list", "listing", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="CSV, TSV or JSON of file, prompt and seed [default: files are named ROW-SEED.png or ROW.png].")
@click.option("--batch", type=click.IntRange(min=1), default=32, show_default=True, metavar="INTEGER",
              help="Images judged together.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER",
              help="Where the result goes [default: runs/score-PROTOCOL].")
def command(folder: Path, protocol: str, listing: Path | None, batch: int, out: Path | None, **flags: Any) -> None:
    """Score the images in FOLDER, which any program drew, by a protocol's detectors and formulas.

    Images that the protocol does not ask for, rows without an image and files that cannot be read are counted.
    """
    from expunge.cli.output import tell
    from expunge.cli.progress import progress
    from expunge.protocols.artefacts import parse_files
    from expunge.protocols.result import RESULT
    from expunge.protocols.schema import read_protocol
    from expunge.protocols.supplied import score_folder

    asked = Asked.taken(flags)
    if not protocol:
        raise UserError("no protocol", accepted="--protocol NAME", remedy="`expunge ls protocols` lists them")
    where = out or Path("runs") / f"score-{Path(protocol).stem}"
    with progress("judging") as report:
        result = score_folder(folder, read_protocol(protocol), listing=listing, files=parse_files(asked.files),
                              settings=asked.settings({"batch": batch}), out=where, progress=report)
    write_tables(result, where)
    print_result(result)
    tell("protocol", where / RESULT)
