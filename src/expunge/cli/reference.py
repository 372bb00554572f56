"""`expunge reference`: statistics of real images, for FID and KID against them."""

from __future__ import annotations

from pathlib import Path

import click

from expunge.cli.lists import Name
from expunge.cli.terminal import echo

EXAMPLES = """\b
Examples:
  $ expunge reference coco --features inception --file inception=fid_weights.pth --out coco.safetensors
  features: inception-2015-12-05@6726825d/clean299
  images: 30000
  reference: coco.safetensors
\b
  $ expunge reference coco --features inception --out coco.safetensors
  error: feature 'inception' needs a file: inception
    accepted: [...]
    give it as --file inception=PATH; nothing is downloaded
"""


@click.command("reference", epilog=EXAMPLES)
@click.argument("source", type=click.Path(path_type=Path), metavar="FOLDER")
@click.option("--features", required=True, metavar="NAME", help="Whose features: see `expunge ls features`.")
@click.option("--resizer", default="", metavar="NAME",
              help="With inception: clean299 (the default), tf299 or bilinear299.")
@click.option("--file", "files", type=Name(), multiple=True, metavar="ROLE=PATH",
              help="A file that the features need, by its role: inception=PATH. May be repeated.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, metavar="FILE",
              help="Where the statistics go (.safetensors).")
@click.option("--about", default="", metavar="TEXT", help="In words, which images these are [default: FOLDER's name].")
@click.option("--list", "listing", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="CSV, TSV or JSON that names the files to take; others in the folder are counted.")
@click.option("--allow-deviation", is_flag=True,
              help="Take a file of another hash than the published one; scores then say that it is modified.")
def command(source: Path, features: str, resizer: str, files: tuple[str, ...], out: Path, about: str,
            listing: Path | None, allow_deviation: bool) -> None:
    """Make statistics of the images in FOLDER, which FID and KID against real images are measured with.

    FOLDER may be an npz with arrays mu and sigma, as other programs write them; with which features it was made is then
    your word. Images are read in batches and forgotten. What cannot be read is left out and counted.
    """
    from expunge.cli.output import tell
    from expunge.cli.progress import progress
    from expunge.errors import UserError
    from expunge.files import check_writable
    from expunge.metrics.image_folder import ImageFolder
    from expunge.metrics.named import features_named
    from expunge.metrics.reference import brought, statistics_of, write_statistics

    extractor = features_named(features, _files(files), resizer=resizer, modified=allow_deviation)
    check_writable(out.parent)
    if source.suffix == ".npz" and source.is_file():
        if listing is not None:
            raise UserError("--list with an npz", accepted="--list with a folder")
        made = brought(source, extractor, about)
    else:
        folder = ImageFolder.open(source, listing)
        with progress(f"measuring {len(folder.names)} images") as report:
            made = statistics_of(folder, extractor, source=about, tell=report)
        for line in folder.notices:
            echo(line, err=True)
    write_statistics(out, made)
    echo(f"features: {made.moments.features}")
    echo(f"images: {made.moments.n or 'unknown'}")
    tell("reference", out)


def _files(pairs: tuple[str, ...]) -> dict[str, Path]:
    """Paths by role. UserError for one without a "=", or a role twice."""
    from expunge.errors import UserError

    out: dict[str, Path] = {}
    for pair in pairs:
        role, sign, path = pair.partition("=")
        if not sign or not role or not path or role in out:
            raise UserError(f"--file {pair!r}", accepted="ROLE=PATH, each role once")
        out[role] = Path(path).expanduser()
    return out
