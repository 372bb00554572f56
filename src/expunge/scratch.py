"""Folders and files that take long to write, made in a folder beside their place: there whole, or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from expunge.errors import StorageError, UserError
from expunge.files import put_in_place
from expunge.locks import LOCK, alone, give_up

_ASIDE = "before.expunge-part"


@contextmanager
def beside(out: Path) -> Iterator[Path]:
    """Inside, an empty folder on the same disk as `out`, for what is to be put there; it goes in the end.

    One process at a time has it. What a process that was killed left in it is cleared away first: what stood at `out`
    and was half-way put aside returns there, the rest is deleted.

    Raises:
        UserError: another process is writing there. StorageError: the folder cannot be written.
    """
    place = _place(out)
    with alone(place, out):
        _returned(place / _ASIDE, out)
        _empty(place)
        try:
            yield place
        finally:
            _empty(place)
            give_up(place)


def taken(out: Path, accepted: str, remedy: str = "") -> UserError:
    """What to raise where `out` is there already. What a process left beside it that was killed right after it had put
    it there is cleared away, for nobody else will come to do it."""
    if _place(out).exists():
        with suppress(UserError, StorageError), beside(out):
            pass
    return UserError(f"{out} exists already", accepted=accepted, remedy=remedy)


def put(made: Path, out: Path, *companions: tuple[Path, Path]) -> None:
    """Rename what was made in a folder of `beside(out)` into place; what was there goes when it is there.

    Companions come first: whoever is killed in between left nothing at `out`, and can be started again.

    Args:
        companions: what belongs beside `out`, as its record: what was made, and its place.

    Raises:
        OSError: a place cannot be taken; all is as it was.
    """
    put_in_place([*companions, (made, out)], made.parent / _ASIDE)


def _place(out: Path) -> Path:
    return out.with_name(f".{out.name}.expunge-part")


def _returned(aside: Path, out: Path) -> None:
    """Put back what a killed run had put aside, unless what was to come is there already."""
    if not aside.is_dir() or (os.path.lexists(aside / out.name) and os.path.lexists(out)):
        return
    for old in aside.iterdir():
        old.replace(out.parent / old.name)  # over a new companion, whose file never came


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.name != LOCK:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
