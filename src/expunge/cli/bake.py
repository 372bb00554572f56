"""`expunge bake`: train the embedded model again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from expunge.cli.options import as_yaml, dry_run_option, given, settings_options
from expunge.cli.terminal import echo
from expunge.tiny.bake.settings import BakeSettings

EXAMPLES = """\b
Examples:
  $ expunge bake --pictures images --without church --out runs/never-church
  model: runs/never-church/emoji-64
\b
  $ expunge bake --pictures nowhere
  error: no images at nowhere/emojicanvas
    accepted: a folder with metadata.csv and one folder per vendor
    pass --pictures FOLDER; docs/attribution.md says where the drawings come from
"""


@click.command("bake", epilog=EXAMPLES)
@settings_options(BakeSettings)
@dry_run_option
def command(config: Path | None, sets: tuple[str, ...], dry_run: bool, **flags: Any) -> None:
    """Train the embedded model again from a folder of drawings: seeded, resumable, on CPU or GPU.

    Every stage is kept under OUT/work; a run that was stopped goes on from there. With --without the model never
    sees the named things: the gold reference that unlearning should come close to.
    """
    from expunge.cli.output import tell
    from expunge.cli.progress import progress
    from expunge.locks import alone
    from expunge.tiny.bake.recipe import bake

    settings = BakeSettings.build(given(config, sets, flags), str(config) if config else "expunge bake")
    if dry_run:
        echo(as_yaml(settings.model_dump(mode="json")).rstrip())
        echo("# estimate: none beforehand; each stage tells the time it has left, the denoiser takes the longest")
        return
    with alone(settings.out), progress("baking") as report:
        folder = bake(settings, lambda stage, done, total, losses: report(done, total, {**losses}, title=stage))
    tell("model", folder)
