"""`expunge cache`: what the cache of drawn images holds, and making room in it."""

from __future__ import annotations

from pathlib import Path

import click

from expunge.cli.terminal import echo

EXAMPLES = """\b
Examples:
  $ expunge cache
  folder: [...]
  images: [...]
  bound: 20.0 GiB (EXPUNGE_CACHE_LIMIT)
\b
  $ expunge cache --clear --unused 30
  removed: [...]
"""


@click.command("cache", epilog=EXAMPLES)
@click.option("--cache", "folder", type=click.Path(path_type=Path, file_okay=False), metavar="FOLDER",
              help="Another cache [default: $EXPUNGE_CACHE, or ~/.cache/expunge/pictures].")
@click.option("--clear", is_flag=True, help="Delete its images, and what is remembered of models' files.")
@click.option("--unused", type=click.FloatRange(min=0), metavar="NUMBER",
              help="With --clear: only images that were not used for so many days.")
def command(folder: Path | None, clear: bool, unused: float | None) -> None:
    """Show where drawn images are kept, how many there are and how much room they take; --clear makes room.

    Nothing is lost that cannot be drawn again: results hold their own copies of the images that they show. Past its
    bound (EXPUNGE_CACHE_LIMIT, in GiB; 0 for none) the cache deletes what was not used for longest by itself. Only
    files that a cache wrote are ever deleted, and --clear refuses a folder that is none.
    """
    import datetime

    from expunge.errors import UserError
    from expunge.models.cache_size import clear as empty
    from expunge.models.cache_size import limit, usage
    from expunge.models.cache_size import root as default

    where = folder or default()
    if unused is not None and not clear:
        raise UserError("--unused without --clear", accepted="--clear --unused DAYS")
    if clear:
        gone, freed, forgotten = empty(where, None if unused is None else unused * 86400)
        echo(f"removed: {gone} images, {_size(freed)}"
                   + (f"; digests of {forgotten} model folders" if forgotten else ""))
    held, most = usage(where), limit()
    echo(f"folder: {where}")
    days = [datetime.datetime.fromtimestamp(when).date().isoformat() for when in (held.oldest, held.newest)]
    echo(f"images: {held.pictures}, {_size(held.size)}"
               + (f", of {held.models} model{'' if held.models == 1 else 's'}, last used {days[0]} to {days[1]}"
                  if held.pictures else ""))
    echo("bound: none (EXPUNGE_CACHE_LIMIT)" if most is None else f"bound: {_size(most)} (EXPUNGE_CACHE_LIMIT)")


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 // 10 else f"{count / 2**20:.1f} MiB"
