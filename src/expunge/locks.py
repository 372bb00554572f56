"""One process per folder: a lock file that the system itself opens again when its holder ends, however it ends.

Whatever writes into a folder of results is `alone` in it; only where sharing is meant (the cells of a bench) a run asks
with `held` and goes on with something else. What several change in moments, each a little, they change `in_turn`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from filelock import FileLock, Timeout

from expunge.errors import StorageError, UserError
from expunge.files import check_writable, output_folder

log = logging.getLogger(__name__)

LOCK = ".lock"
PATIENCE = 10.0
"""Seconds that whoever is next waits for its turn."""
_ours: set[tuple[int, Path]] = set()
"""Lock files that a thread of this process holds: what it calls may hold them, too."""
Taken = ParamSpec("Taken")
Given = TypeVar("Given")


@contextmanager
def held(folder: Path, name: str = LOCK) -> Iterator[bool]:
    """Inside, whether this process (and no other) holds `folder`; never waits.

    The lock is the operating system's (`flock`, or its like on Windows), so nothing is left behind by a process that
    was killed. The empty file stays. What holds a folder may call what holds it again.

    Args:
        name: of the lock's file: a part of a folder's files has one of its own, where it goes by itself.

    Raises:
        StorageError: the folder cannot be written.
    """
    mine = (threading.get_ident(), folder.resolve() / name)
    if mine in _ours:
        yield True
        return
    try:
        lock = _acquired(folder, name)
    except Timeout:
        yield False
        return
    except OSError as error:
        raise StorageError(f"cannot write into {folder}: {error.strerror or error}",
                           remedy="choose another output folder; nothing was begun") from error
    except NotImplementedError:  # what filelock raises where the file system knows no locks
        log.warning("the file system of %s knows no locks: see to it that one run at a time writes there", folder)
        yield True
        return
    _ours.add(mine)
    try:
        yield True
    finally:
        _ours.discard(mine)
        lock.release()


def _acquired(folder: Path, name: str) -> FileLock:
    """The lock, in a folder that is made where there is none. Timeout: another process holds it."""
    tries = 9
    while True:
        lock = FileLock(folder / name)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(blocking=False)
        except (FileExistsError, FileNotFoundError):  # somebody gave the folder up just then; or a file is in its place
            tries -= 1
            if not tries:
                raise
        else:
            return lock


@contextmanager
def in_turn(folder: Path, name: str) -> Iterator[None]:
    """Inside, no other process holds the lock `name` of `folder`; waits for one that does.

    Raises:
        UserError: it was held for longer than `PATIENCE`. StorageError: the folder cannot be written.
    """
    until = time.monotonic() + PATIENCE
    while True:
        with held(folder, name) as mine:
            if mine:
                yield
                return
        if time.monotonic() > until:
            raise UserError(f"another process holds {folder / name}", accepted="one at a time, for a moment each",
                            remedy="try again; nothing was changed")
        time.sleep(0.02)


@contextmanager
def alone(folder: Path, called: Path | None = None) -> Iterator[None]:
    """Inside, no other process writes into `folder`. What is refused inside before it wrote anything leaves no folder.

    Args:
        called: what a refusal calls it; None: as it is called.

    Raises:
        UserError: another one does. StorageError: the folder cannot be written.
    """
    new = not folder.exists()
    with held(folder) as mine:
        if not mine:
            raise UserError(f"another run is writing into {called or folder}",
                            accepted="one run at a time in a folder", remedy="wait for it, or "
                            "choose another output folder; nothing was begun")
        try:
            yield
        except BaseException:
            if new and folder.is_dir() and [file.name for file in folder.iterdir()] == [LOCK]:
                give_up(folder)
            raise


def give_up(folder: Path) -> None:
    """Take away an empty folder that this process holds, and its lock file before it is let go: whoever opened the
    file and gets the lock afterwards sees that it is there no more, and begins anew (`filelock` looks).

    What the system keeps, as an open file on Windows, stays.
    """
    with suppress(OSError):
        (folder / LOCK).unlink()
        folder.rmdir()


def alone_in_out(inner: str = "", when: Callable[[], bool] = lambda: True
                 ) -> Callable[[Callable[Taken, Given]], Callable[Taken, Given]]:
    """A decorator: the function has the folder that it gets as the keyword `out` to itself (None: no folder).

    Args:
        inner: a folder in it, for a function that shares `out` with another one.
        when: whether this process is the one that writes.
    """
    def decorate(function: Callable[Taken, Given]) -> Callable[Taken, Given]:
        @wraps(function)
        def guarded(*args: Taken.args, **kwargs: Taken.kwargs) -> Given:
            if kwargs.get("out") is None:
                return function(*args, **kwargs)
            out = kwargs["out"] = output_folder(kwargs["out"])
            if not when():
                return function(*args, **kwargs)
            check_writable(out)
            with alone(out / inner):
                return function(*args, **kwargs)
        return guarded
    return decorate
