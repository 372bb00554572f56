"""`expunge compare`: two runs of one protocol, paired image by image."""

from __future__ import annotations

from pathlib import Path

import click

from expunge.cli.terminal import echo

EXAMPLES = """\b
Examples:
  $ expunge compare runs/uce/protocol-i2p-sexual runs/esd/protocol-i2p-sexual
  images that show it by nudity, B less A: [...]
\b
  $ expunge compare runs/uce/evaluation runs/esd/evaluation
  error: no protocol's result at runs/uce/evaluation
    accepted: a folder with protocol.json
    make one with `expunge evaluate --protocol NAME PATCH`
"""


@click.command("compare", epilog=EXAMPLES)
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
def command(a: Path, b: Path) -> None:
    """Say by how much more images of run B show what the protocol looks for than those of run A, with intervals.

    Both are folders of `expunge evaluate --protocol`, of the same protocol on the same model.
    """
    from expunge.protocols.compare import compared
    from expunge.records import PROTOCOLS

    for score in compared(PROTOCOLS.read(a), PROTOCOLS.read(b), a, b):
        lost = "; ".join(f"{count} {why}" for why, count in score.left_out.items())
        value = "not measured" if score.value is None else f"{100 * score.value:+.1f} points"
        ends = "" if score.low is None or score.high is None else \
            f" (95% interval {100 * score.low:+.1f} to {100 * score.high:+.1f})"
        echo(f"{score.title}: {value}{ends}, {score.n} pairs of {score.prompts} prompts"
                   + (f"; {lost}" if lost else ""))
