"""`expunge push`: an edit on the Hugging Face Hub, when it is asked for in so many words."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from expunge.cli.options import as_yaml, dry_run_option, given, settings_options
from expunge.cli.terminal import echo
from expunge.errors import UserError
from expunge.hub.plan import PushSettings

if TYPE_CHECKING:
    from expunge.hub.plan import Push

EXAMPLES = """\b
Examples:
  $ expunge push runs/church --repo someone/no-church --license apache-2.0 --dry-run
  repo: someone/no-church
  [...]
  # nothing was uploaded
\b
  $ expunge push runs/church --repo someone/no-church --license apache-2.0
  error: nothing was uploaded: --yes-upload is not there
    accepted: --dry-run, which shows what would go, or --yes-upload
"""


@click.command("push", epilog=EXAMPLES)
@click.argument("run", type=click.Path(path_type=Path))
@settings_options(PushSettings)
@click.option("--yes-upload", is_flag=True, help="Upload it. Without this word nothing leaves the machine.")
@dry_run_option
def command(run: Path, config: Path | None, sets: tuple[str, ...], yes_upload: bool, dry_run: bool, **flags: Any
            ) -> None:
    """Upload the patch in RUN, or weights made from it, with a model card and its scores.

    Private, and as a pull request, unless asked otherwise. --dry-run shows every file with its sha256 and the card, and
    touches no network. No image goes, nobody who asked, and no prompt of an explicit concept, of a person or of a list
    of your own.
    """
    from expunge.hub.plan import planned
    from expunge.hub.push import push

    settings = PushSettings.build(given(config, sets, flags), str(config) if config else "expunge push")
    if not (yes_upload or dry_run):
        raise UserError("nothing was uploaded: --yes-upload is not there",
                        accepted="--dry-run, which shows what would go, or --yes-upload")
    with tempfile.TemporaryDirectory() as scratch:
        made = planned(run, settings, Path(scratch))
        if dry_run:
            echo(_shown(made))
            return
        echo(f"uploaded: {push(made)}")


def _shown(made: Push) -> str:
    """The settings as YAML, and as comments everything that would go."""
    settings = made.settings
    lines = [as_yaml(settings.model_dump(mode="json")).rstrip(),
             f"# to {settings.repo}, {'public' if settings.public else 'private'}, "
             + ("as a pull request" if settings.pull_request else "at once"), f"# a {made.kind}; what would go:"]
    lines += [f"#   {name}  {size:,} bytes  sha256 {digest}" for name, size, digest in made.listing]
    lines += ["# README.md:", *(f"#   {line}".rstrip() for line in made.card.splitlines())]
    return "\n".join([*lines, "# nothing was uploaded"])
