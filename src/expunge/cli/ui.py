"""`expunge ui`: a page to try models and edits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from expunge.cli.options import model_options
from expunge.cli.terminal import echo

if TYPE_CHECKING:
    from expunge.models.source import Source

EXAMPLES = """\b
Examples:
  $ expunge ui
  page: http://127.0.0.1:7860/
  folder: runs
  Ctrl-C ends it.
\b
  $ expunge ui runs --host 0.0.0.0 --port 8000
  page: http://0.0.0.0:8000/?token=[...]
  folder: runs
  Ctrl-C ends it.
"""
TOKEN = "EXPUNGE_UI_TOKEN"
SHORTEST = 16
"""Letters of a token."""


@click.command("ui", epilog=EXAMPLES)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), default=Path("runs"))
@model_options
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS",
              help="Where to listen. Any other than a loopback address asks visitors for a token.")
@click.option("--port", type=click.IntRange(0, 65535), default=7860, show_default=True, metavar="INTEGER",
              help="The port; 0 takes a free one.")
def command(folder: Path, model: Source, device: str, dtype: str, variant: str | None, allow_pickle: bool,
            verify: bool, offload: bool, eight_bit: bool, host: str, port: int) -> None:
    """Serve a page on this machine: draw before and after an edit, erase, attack, read reports, label blind.

    It works with one model and with the patches and runs in FOLDER (runs, if none is named); new patches go there, and
    nothing else is touched. One job runs at a time. Nothing is loaded from the internet.

    The token is $EXPUNGE_UI_TOKEN, or a new one that is printed with the address. Traffic is not encrypted: on a
    network that you do not trust, put a proxy with TLS before it, or use an SSH tunnel.
    """
    from expunge.models.store import load
    from expunge.ui.guarding import is_loopback
    from expunge.ui.served import Served
    from expunge.ui.server import Page, serve

    token = _token(needed=not is_loopback(host))
    served = Served(folder, model.model, lambda: load(
        model, device=device, dtype=dtype, variant=variant, allow_pickle=allow_pickle, verify=verify, offload=offload,
        eight_bit=eight_bit))
    served.open()  # what is wrong with the model is told now

    def ready(address: str) -> None:
        echo(f"page: {address}{f'?token={token}' if token else ''}")
        echo(f"folder: {folder}")
        echo("Ctrl-C ends it.")

    serve(Page(served), host=host, port=port, token=token, ready=ready)


def _token(needed: bool) -> str:
    """What visitors must carry; "" where nobody asks for it."""
    import os
    import re
    import secrets

    from expunge.errors import UserError

    given = os.environ.get(TOKEN, "")
    if given and not re.fullmatch(rf"[A-Za-z0-9_-]{{{SHORTEST},}}", given):
        raise UserError(f"${TOKEN} of {len(given)} letters",
                        accepted=f"{SHORTEST} or more letters, digits, - and _", remedy="unset it: one is made for you")
    return given or (secrets.token_urlsafe(24) if needed else "")
