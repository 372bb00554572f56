"""`expunge keys`: a pair of keys to sign bundles with."""

from __future__ import annotations

from pathlib import Path

import click

from expunge.cli.terminal import echo

EXAMPLES = """\b
Examples:
  $ expunge keys --out keys
  private key: keys/expunge.key
  public key: keys/expunge.pub
  [...]
\b
  $ expunge keys --out keys
  error: keys/expunge.key exists already
    accepted: a folder without a private key
    a key that is overwritten signs nothing any more: choose another folder
"""


@click.command("keys", epilog=EXAMPLES)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("keys"), show_default=True,
              metavar="FOLDER", help="Where they go.")
def command(out: Path) -> None:
    """Make a pair of keys (EC P-256, PEM): a private one to sign with, a public one to hand out.

    A private key is never overwritten; a public one that lies there without it is.

    Any such pair will do, of openssl's making, too; a private key with a password is opened with the one in
    $EXPUNGE_KEY_PASSWORD.
    """
    from expunge.cli.output import tell
    from expunge.evidence.signing import make_keys

    private, public = make_keys(out)
    tell("private key", private)
    tell("public key", public)
    echo("keep the private key to yourself; publish the public one where readers find it without the bundle")
