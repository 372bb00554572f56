"""How large the cache is, and how it stays within its bound: what was not used for longest goes first.

The bound is $EXPUNGE_CACHE_LIMIT in GiB, 20 where nothing is set; 0 means none. What was used within the last hour
stays whatever the bound, so that runs that are on do not take each other's pictures.

To see how large a cache is all of it is walked, so a process does that after its first drawing and then whenever it has
written another `SLACK` of the bound. Hence a cache holds at most that much more than its bound, for each process that
draws into it, beside what one drawing adds and what is in use.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from expunge.errors import UserError

LIMIT = 20.0
"""GiB."""
IN_USE = 3600.0
"""Seconds for which what was used is left alone."""
SLACK = 0.02
"""Share of the bound that a process may write before it looks again how large the cache is."""
_since: dict[Path, int] = {}
"""By cache that this process has walked: bytes that it has written since."""


@dataclass(frozen=True)
class Usage:
    """What a cache holds.

    Attributes:
        pictures: how many, with a record each; size: bytes of all files; models: of how many models (as drawn one way).
        oldest, newest: when a picture was last used, in seconds since 1970; 0 without any.
    """

    pictures: int = 0
    size: int = 0
    models: int = 0
    oldest: float = 0.0
    newest: float = 0.0


@dataclass(frozen=True)
class _Kept:
    record: Path
    size: int
    used: float


def root() -> Path:
    """Where drawn pictures are kept: $EXPUNGE_CACHE, or ~/.cache/expunge/pictures."""
    named = os.environ.get("EXPUNGE_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "expunge" / "pictures"


def remembered_of(root: Path) -> Iterator[Path]:
    """What is remembered of models' files (`models.remembered`)."""
    return root.glob("digests/*.json")


def limit() -> int | None:
    """Most bytes of the cache; None for no bound.

    Raises:
        UserError: $EXPUNGE_CACHE_LIMIT is no number of GiB.
    """
    told = os.environ.get("EXPUNGE_CACHE_LIMIT", "").strip() or str(LIMIT)
    try:
        size = float(told)
    except ValueError:
        size = -1.0
    if not 0 <= size < float("inf"):
        raise UserError(f"EXPUNGE_CACHE_LIMIT={told!r}", accepted="GiB, such as 20 or 0.5; 0 for no bound")
    return round(size * 2 ** 30) or None


def usage(root: Path) -> Usage:
    """What the cache at `root` holds; nothing where there is none."""
    kept = list(_kept(root))
    if not kept:
        return Usage()
    return Usage(len(kept), sum(one.size for one in kept), len({one.record.parents[1] for one in kept}),
                 min(one.used for one in kept), max(one.used for one in kept))


def make_room(root: Path, most: int, wrote: int) -> tuple[int, int]:
    """`within`, where enough was written since the last time for that to matter; else (0, 0).

    Args:
        wrote: bytes that this process has written since it last asked.
    """
    since = _since.get(root, most) + wrote  # of a cache that was not walked yet nothing is known
    due = since > SLACK * most
    _since[root] = 0 if due else since
    return within(root, most) if due else (0, 0)


def within(root: Path, most: int, older: float = IN_USE) -> tuple[int, int]:
    """Delete what was not used for longest until at most `most` bytes are left; returns pictures deleted, bytes freed.

    Args:
        older: seconds; what was used since stays.
    """
    kept = sorted(_kept(root), key=lambda one: one.used)
    size, gone, freed, now = sum(one.size for one in kept), 0, 0, time.time()
    for one in kept:
        if size - freed <= most or now - one.used < older:
            break
        one.record.unlink(missing_ok=True)  # first: a picture without a record does not count
        one.record.with_suffix(".png").unlink(missing_ok=True)
        gone, freed = gone + 1, freed + one.size
    return gone, freed


def touched(record: Path) -> None:
    """Let a picture's record say that it was used now."""
    with suppress(OSError):  # a cache of somebody else's may be read all the same
        os.utime(record)


def _kept(root: Path) -> Iterator[_Kept]:
    """Every picture with its record; a picture is at <drawing>/<two letters>/<key>."""
    for record in root.glob("*/??/*.json"):
        try:
            about = record.stat()
            size = about.st_size + record.with_suffix(".png").stat().st_size
        except OSError:  # another process took it away
            continue
        yield _Kept(record, size, about.st_mtime)
