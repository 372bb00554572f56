"""`expunge verify`: what holds of a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from expunge.cli.lists import Name
from expunge.cli.terminal import echo
from expunge.errors import UserError

EXAMPLES = """\b
Examples:
  $ expunge verify church-evidence --public-key keys/expunge.pub --base embedded
  holds  signature: all files, by the key 3f0c1a2b3c4d5e6f
  holds  file README.md: 9d2c41d0a7e35b18
  [...]
\b
  $ expunge verify runs/church
  error: no bundle at runs/church
    accepted: a folder with manifest.json
    `expunge bundle RUN --out FOLDER` makes one
"""


@click.command("verify", epilog=EXAMPLES)
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--public-key", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="The publisher's public key (PEM), from elsewhere than the bundle.")
@click.option("--chain", type=Name(), multiple=True, metavar="FILE",
              help="Certificates that you trust, for a bundle signed with one. May be repeated.")
@click.option("--identity", default="", metavar="TEXT",
              help="Who signed without a key, such as a mail address; asks Sigstore for what to trust.")
@click.option("--issuer", default="", metavar="TEXT", help="Who vouches for that identity: an OpenID issuer.")
@click.option("--base", metavar="MODEL", help="The model that the edit is said to be of; its weights are hashed.")
def command(bundle: Path, public_key: Path | None, chain: tuple[str, ...], identity: str, issuer: str,
            base: str | None) -> None:
    """Say line by line what holds of BUNDLE: signature, each file, the record's binding, the BOM, the base.

    Exit codes: 0 where no line fails, 1 where one does, 2 wrong use. What nothing was named for stays open.
    """
    from expunge.evidence.signing import Trust, check_installed
    from expunge.evidence.verify import verify_bundle
    from expunge.models.store import load

    if bool(identity) != bool(issuer):
        raise UserError("--identity without --issuer" if identity else "--issuer without --identity",
                        accepted="both, or neither")
    if sum((public_key is not None, bool(chain), bool(identity))) > 1:
        raise UserError("several ways to tell whose signature it is", accepted="--public-key, --chain, or --identity "
                        "with --issuer")
    check_installed()
    model = load(base, device="cpu", verify=True) if base else None
    lines = verify_bundle(bundle, trust=Trust(public_key, tuple(map(Path, chain)), identity, issuer), base=model)
    for line in sorted(lines, key=lambda one: one.state == "holds"):  # what does not hold is read first
        echo(str(line))
    failed = [line for line in lines if line.state == "fails"]
    left = ", ".join(line.what for line in lines if line.state == "open")
    echo(f"not whole: {len(failed)} of {len(lines)} lines fail" if failed else
               f"whole; open: {left}" if left else "whole")
    if failed:
        raise click.exceptions.Exit(1)
