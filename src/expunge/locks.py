"""One process per folder: a lock file that the system itself opens again when its holder ends, however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = ".lock"


@contextmanager
def held(folder: Path) -> Iterator[bool]:
    """Inside, whether this process (and no other) holds `folder`; never waits.

    The lock is the operating system's (`flock`, or its like on Windows), so nothing is left behind by a process that
    was killed. The empty file stays.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
