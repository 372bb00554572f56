"""`expunge bundle`: the evidence of an edit in one folder, signed."""

from __future__ import annotations

from pathlib import Path

import click

from expunge.cli.lists import Name
from expunge.cli.options import copy_options
from expunge.cli.terminal import echo
from expunge.errors import UserError

EXAMPLES = """\b
Examples:
  $ expunge bundle runs/church --out church-evidence --key keys/expunge.key
  bundle: church-evidence
  [...]
\b
  $ expunge bundle runs/church --out church-evidence
  error: church-evidence exists already
    accepted: a new or empty folder
"""


@click.command("bundle", epilog=EXAMPLES)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, metavar="FOLDER",
              help="A new or empty folder.")
@click.option("--exports", type=Name(), multiple=True, metavar="FILE",
              help="What was exported from the patch, a file or a folder, to go along. May be repeated.")
@click.option("--key", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="The private key to sign with (PEM); `expunge keys` makes one. Without it the bundle is unsigned.")
@click.option("--certificate", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="A certificate of that key (PEM), for readers who trust an authority.")
@click.option("--chain", type=Name(), multiple=True, metavar="FILE",
              help="Certificates between it and the authority. May be repeated.")
@copy_options
def command(run: Path, out: Path, exports: tuple[str, ...], key: Path | None, certificate: Path | None,
            chain: tuple[str, ...], by: str, redact: bool) -> None:
    """Gather patch, exports, records, environment and an ML-BOM of RUN, a patch's folder, and sign them.

    The records are bound to the weights by a statement in a signed envelope, and all files by an OpenSSF model
    signature. `expunge verify` says what holds. Needs the extra `evidence`.
    """
    from shlex import quote

    from expunge.cli.output import tell
    from expunge.evidence.bundle import make_bundle
    from expunge.evidence.signing import Signer

    if (certificate or chain) and key is None:
        raise UserError("a certificate without --key", accepted="--key with --certificate")
    if chain and certificate is None:
        raise UserError("--chain without --certificate", accepted="--certificate with --chain")
    made = make_bundle(run, out, exports=exports, by=by, redact=redact,
                       signer=Signer(key, certificate, tuple(map(Path, chain))) if key is not None else None)
    tell("bundle", made.folder)
    echo(f"manifest: sha256 {made.root}")
    for words in made.left_out:
        echo(f"left out: {words}")
    echo(f"signed by the key {made.signed}" if made.signed else
               "unsigned: nobody answers for these files (--key signs)")
    echo(f"next: expunge verify {quote(str(out))}{' --public-key FILE' if made.signed else ''}")
