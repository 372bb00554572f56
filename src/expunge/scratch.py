"""Folders and files that take long to write, made in a folder beside their place: there whole, or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from expunge.locks import LOCK, alone


@contextmanager
def beside(out: Path) -> Iterator[Path]:
    """Inside, an empty folder on the same disk as `out`, for what is to be put there; it goes in the end.

    One process at a time has it. What a process that was killed left in it is cleared away first: what stood at `out`
    and was half-way put aside returns there, the rest is deleted.

    Raises:
        UserError: another process is writing there. StorageError: the folder cannot be written.
    """
    place = out.with_name(f".{out.name}.expunge-part")
    with alone(place, out):
        if (before := _aside(place, out)).exists() and not out.exists():
            before.rename(out)
        _empty(place)
        try:
            yield place
        finally:
            _empty(place)
    with suppress(OSError):  # another process has begun to write there
        (place / LOCK).unlink()
        place.rmdir()


def put(made: Path, out: Path) -> None:
    """Rename what was made in a folder of `beside(out)` into place; what was there goes when it is there. OSError."""
    if not out.is_dir():
        made.replace(out)
        return
    before = _aside(made.parent, out)
    out.rename(before)
    try:
        made.rename(out)
    except OSError:
        before.rename(out)
        raise


def _aside(place: Path, out: Path) -> Path:
    return place / f"{out.name}.before"


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.name != LOCK:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
