"""How large the cache is, and how it stays within its bound: what was not used for longest goes first.

The bound is $EXPUNGE_CACHE_LIMIT in GiB, 20 where nothing is set; 0 means none. What was used within the last hour
stays whatever the bound, so that runs that are on do not take each other's images.

To see how large a cache is all of it is walked, so a process does that after its first drawing and then whenever it has
written another `SLACK` of the bound. Hence a cache holds at most that much more than its bound, for each process that
draws into it, beside what one drawing adds and what is in use.

Only what the cache wrote is ever deleted: a record that says what its own file's name says, and the image beside it.
Any other file in the folder, whatever it is called, stays. A marker in the root tells a cache from any other folder.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from expunge import untrusted
from expunge.errors import StorageError, UserError
from expunge.files import write_json
from expunge.records import ImageRecord

LIMIT = 20.0
"""GiB."""
IN_USE = 3600.0
"""Seconds for which what was used is left alone."""
SLACK = 0.02
"""Share of the bound that a process may write before it looks again how large the cache is."""
MARKER = "expunge-cache.json"
"""File in a cache's root by which it is known."""
APART = "again-in-batches-of-"
"""How the name of a cache within a cache begins: images that were drawn again, to measure how much that changes."""
_KEY = re.compile(r"[0-9a-f]{24}")
_PAIR, _DRAWING = re.compile(r"[0-9a-f]{2}"), re.compile(r"(?:\d+-)?[0-9a-f]{4,64}")
_DIGEST = re.compile(r"[0-9a-f]{32}")
_since: dict[Path, int] = {}
"""By cache that this process has walked: bytes that it has written since."""


@dataclass(frozen=True)
class Usage:
    """What a cache holds.

    Attributes:
        pictures: how many, with a record each; size: bytes of all files; models: of how many models (as drawn one way).
        oldest, newest: when an image was last used, in seconds since 1970; 0 without any.
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
    """Where drawn images are kept: $EXPUNGE_CACHE, or ~/.cache/expunge/pictures."""
    named = os.environ.get("EXPUNGE_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "expunge" / "pictures"


def mark(root: Path) -> None:
    """Let the folder be known as a cache. What cannot be written is told by whatever is written next."""
    if not (root / MARKER).exists():
        with suppress(StorageError):
            write_json(root / MARKER, {"what": "images drawn by expunge; they can be drawn again"})


def is_cache(root: Path) -> bool:
    """Whether the folder is a cache: by its marker, or (of earlier versions) by an image that a cache wrote."""
    return (root / MARKER).is_file() or any(_wrote(one.record) for one in _kept(root))


def remembered_of(root: Path) -> Iterator[Path]:
    """What is remembered of models' files (`models.remembered`)."""
    return (file for file in root.glob("digests/*.json") if _DIGEST.fullmatch(file.stem) and _is_digests(file))


def limit() -> int | None:
    """Most bytes of the cache; None for no bound.

    Raises:
        UserError: $EXPUNGE_CACHE_LIMIT is no number of GiB.
    """
    given = os.environ.get("EXPUNGE_CACHE_LIMIT", "").strip() or str(LIMIT)
    try:
        size = float(given)
    except ValueError:
        size = -1.0
    if not 0 <= size < float("inf"):
        raise UserError(f"EXPUNGE_CACHE_LIMIT={given!r}", accepted="GiB, such as 20 or 0.5; 0 for no bound")
    return round(size * 2 ** 30) or None


def usage(root: Path) -> Usage:
    """What the cache at `root` holds; nothing where there is none."""
    kept = [one for one in _kept(root) if _wrote(one.record)]
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
    """Delete what was not used for longest until at most `most` bytes are left; returns images deleted, bytes freed.

    Args:
        older: seconds; what was used since stays.
    """
    kept = sorted(_kept(root), key=lambda one: one.used)
    size, gone, freed, now = sum(one.size for one in kept), 0, 0, time.time()
    for one in kept:
        if size - freed <= most or (older and now - one.used < older):  # a clock that was set back: used in the future
            break
        if not _wrote(one.record):
            continue
        one.record.unlink(missing_ok=True)  # first: an image without a record does not count
        one.record.with_suffix(".png").unlink(missing_ok=True)
        gone, freed = gone + 1, freed + one.size
    return gone, freed


def clear(root: Path, older: float | None = None) -> tuple[int, int, int]:
    """Delete what was not used for `older` seconds, and folders that are empty then.

    Args:
        older: None deletes all, and forgets what is remembered of models' files.

    Returns:
        Images deleted, bytes freed, models' files forgotten.

    Raises:
        UserError: the folder holds something, and is no cache.
    """
    if root.exists() and (not root.is_dir() or (any(root.iterdir()) and not is_cache(root))):
        raise UserError(f"{root} is no cache of drawn images: it has no {MARKER}, and no image that a cache wrote",
                        accepted="a folder that images were drawn into with EXPUNGE_CACHE or --cache",
                        remedy="nothing was deleted")
    gone, freed = within(root, 0, older or 0.0)
    forgotten = list(remembered_of(root)) if older is None else []
    for file in forgotten:
        file.unlink(missing_ok=True)
    for where in _roots(root):
        for folder in sorted({*where.glob("*/??/"), *where.glob("*/")}, reverse=True):  # what is inside comes first
            if _is_ours(folder, where):
                with suppress(OSError):  # not empty, or another process's
                    folder.rmdir()
        if where != root and [one.name for one in where.iterdir()] == [MARKER]:
            (where / MARKER).unlink(missing_ok=True)
            with suppress(OSError):
                where.rmdir()
    return gone, freed, len(forgotten)


def touched(record: Path) -> None:
    """Let an image's record say that it was used now."""
    with suppress(OSError):  # a cache of somebody else's may be read all the same
        os.utime(record)


def _kept(root: Path) -> Iterator[_Kept]:
    """Every image with its record, by name: an image is at <drawing>/<two letters>/<key>. `_wrote` reads them."""
    for record in (file for where in _roots(root) for file in where.glob("*/??/*.json")):
        if not (_KEY.fullmatch(record.stem) and record.parent.name == record.stem[:2]):
            continue
        try:
            about = record.stat()
            size = about.st_size + record.with_suffix(".png").stat().st_size
        except OSError:  # another process took it away
            continue
        yield _Kept(record, size, about.st_mtime)


def _roots(root: Path) -> list[Path]:
    return [root, *sorted(root.glob(f"{APART}*/"))]


def _is_ours(folder: Path, root: Path) -> bool:
    """Whether a folder is called as a cache calls its own: <drawing>, <drawing>/<two letters>, digests."""
    drawing, *pair = folder.relative_to(root).parts
    if pair:
        return bool(_DRAWING.fullmatch(drawing) and _PAIR.fullmatch(pair[0]))
    return drawing == "digests" or bool(_DRAWING.fullmatch(drawing))


def _wrote(record: Path) -> bool:
    """Whether a cache wrote the record: what it says is what its name says."""
    try:
        shot = ImageRecord.read(untrusted.text(record))
    except (OSError, ValueError):
        return False
    return shot.key == record.stem and Path(shot.file).name == f"{record.stem}.png"


def _is_digests(file: Path) -> bool:
    try:
        stored = untrusted.json_of(file)
    except (OSError, ValueError):
        return False
    return isinstance(stored, dict) and all(isinstance(value, str) for value in stored.values())
