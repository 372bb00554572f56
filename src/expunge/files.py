"""Writing to disk so that nothing is ever half-written: a neighbour file first, then a rename."""

from __future__ import annotations

import hashlib
import json
import logging
import lzma
import os
import re
import sys
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.errors import StorageError, UserError
from expunge.untrusted import check_regular, shortened

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

MOST_UNPACKED = 1 << 30
"""Bytes of the largest packed text that is read: a small file may be packed from endless zeros."""
_PART = ".expunge-file"
"""How the name of a file ends that is being written; `scratch` has another one for what takes long."""
_NEIGHBOUR = re.compile(rf"\..+\.[a-z0-9_]{{8}}{re.escape(_PART)}", re.DOTALL)
_swept: set[Path] = set()
"""Folders in which this process has looked for what others left."""
_MOST_SWEPT = 4096
"""Folders that it remembers: a bench writes into several new ones for each cell."""


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a neighbour of `path`, then rename it into place.

    A process that is killed in between leaves its neighbour behind; a later one that writes there deletes it.

    Raises:
        StorageError: the disk is full or the folder cannot be written; `path` keeps its old content.
    """
    neighbour: Path | None = None
    handle = -1
    try:
        _sweep(path.parent)
        neighbour, handle = _neighbour(path)
        write(neighbour)
        os.chmod(neighbour, 0o644)
        os.replace(neighbour, path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}",
                           remedy="free some space or choose another output folder; nothing was half-written"
                           ) from error
    finally:
        if neighbour is not None:
            neighbour.unlink(missing_ok=True)
        if handle >= 0:
            os.close(handle)


def _neighbour(path: Path) -> tuple[Path, int]:
    """A new file beside `path`, in a folder that is made where there is none; and what keeps sweeps out of the folder.

    The folder is held, not the file: some libraries put a new file in the place of the one that they are given.
    """
    tries = 9
    while True:
        handle = -1
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = _held(path.parent, together=True)
            opened, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_PART)
        except (FileExistsError, FileNotFoundError):  # somebody took the folder away just then, because it was empty
            if handle >= 0:
                os.close(handle)
            tries -= 1
            if not tries:
                raise
            continue
        except OSError:
            if handle >= 0:
                os.close(handle)
            raise
        os.close(opened)
        return Path(name), handle


def _sweep(folder: Path) -> None:
    """Delete what killed processes left behind in a folder, at a moment when nobody writes there.

    Once per process and folder. Where the system knows no such locks nothing is deleted.
    """
    if folder in _swept:
        return
    with suppress(OSError):  # somebody took the folder away just then, or it cannot be changed
        left = [entry.path for entry in os.scandir(folder) if _NEIGHBOUR.fullmatch(entry.name)]
        handle = _held(folder, together=False) if left else -1
        if left and handle < 0:
            return  # perhaps the next time
        if len(_swept) >= _MOST_SWEPT:
            _swept.clear()
        _swept.add(folder)
        try:
            for file in left:
                os.unlink(file)
        finally:
            if left:
                os.close(handle)


def _held(folder: Path, together: bool) -> int:
    """An open folder, whose closing lets it go, however this process ends; -1 where it cannot be held.

    Args:
        together: with others that write there, after whoever sweeps it at the moment; else alone, or not at all.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    if sys.platform == "win32":
        return -1
    import fcntl

    handle = -1
    try:
        handle = os.open(folder, os.O_RDONLY)
        fcntl.flock(handle, fcntl.LOCK_SH if together else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        raise
    except OSError:  # held by another, a folder that may be written but not read, or a file system without locks
        if handle >= 0:
            os.close(handle)
        return -1
    return handle


def readable_by_all(place: Path) -> None:
    """Give a file, or every file in a folder, the mode of an ordinary one: safetensors writes for its owner alone."""
    for file in [place] if place.is_file() else place.rglob("*"):
        if file.is_file():
            os.chmod(file, 0o644)


def output_folder(out: object) -> Path:
    """The folder that a caller named, with `~` as the system reads it.

    Raises:
        UserError: it is no name of a folder.
    """
    if not isinstance(out, str | Path):
        raise UserError(f"{out!r} as the output folder", accepted="a folder's name, as text or Path")
    if not str(out) or "\0" in str(out):
        raise UserError(f"{str(out)!r} as the output folder", accepted="the name of a folder")
    return at_home(out)


def at_home(place: str | Path) -> Path:
    """The path, with `~` as the system reads it.

    Raises:
        UserError: the home of somebody whom the system does not know.
    """
    try:
        return Path(place).expanduser()
    except RuntimeError as error:
        raise UserError(f"the path {shortened(str(place))!r}", accepted="a home folder that there is",
                        remedy="write ./~... for a name that begins so") from error


def check_writable(folder: Path) -> None:
    """Try whether files can be made in `folder`, or where it would be made: before the work, not after it.

    Raises:
        UserError: a file stands where a folder should be.
        StorageError: they cannot.
    """
    try:
        there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    except OSError as error:  # a name that is too long
        raise UserError(f"{shortened(str(folder))} as a folder: {error.strerror or error}",
                        accepted="a name that the file system takes") from error
    if not there.is_dir():
        raise UserError(f"{there} is a file, and no folder", accepted="a folder, or the name of a new one",
                        remedy="choose another output folder; nothing was begun")
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise StorageError(f"cannot write into {folder}: {error.strerror or error}",
                           remedy="choose another output folder; nothing was begun") from error


def check_apart(out: Path, kept: Mapping[str, Iterable[Path]]) -> None:
    """See that what is written at `out` takes the place of nothing that has to stay.

    Args:
        kept: files and folders by what they are, in words ("the model"); what is not there is nothing to lose. A
            folder is kept with all that is in it, wherever its links lead.

    Raises:
        UserError: `out` is one of them, lies in one, or is a folder around one.
    """
    place = Path(os.path.realpath(out))  # a link to itself is none that Path.resolve can say
    for what, paths in kept.items():
        for path in filter(os.path.lexists, paths):
            for entry in (path, *(path.rglob("*") if path.is_dir() else ())):
                real = Path(os.path.realpath(entry))
                if place == real or place in real.parents or real in place.parents:
                    mine = place == Path(os.path.realpath(path))
                    how = "is" if mine else "is a folder around" if place in real.parents else "lies in"
                    raise UserError(f"{out} {how} {what}{'' if out == path else f' ({path})'}",
                                    accepted=f"a place apart from it: {what} stays as it is")


def put_in_place(moves: Sequence[tuple[Path, Path]], aside: Path) -> None:
    """Rename what was written to where it belongs; what was there before goes aside first, the last of it first.

    So an old companion of an old file (its record, named after it) is gone before a new file is there. Whatever
    interrupts, everything is put back that was there before; a kill leaves it in `aside`.

    Args:
        moves: what was written, and where it belongs: places of one folder, on one file system.
        aside: a new folder there, which the caller takes away when all is done.

    Raises:
        OSError: a place cannot be taken.
    """
    aside.mkdir()
    before = [aside / there.name for _, there in moves]
    try:
        for (_, there), old in reversed([*zip(moves, before, strict=True)]):
            if os.path.lexists(there):
                there.rename(old)
        for new, there in moves:
            new.rename(there)
    except BaseException:
        for (new, there), old in zip(moves, before, strict=True):  # the disk tells how far it came
            if not os.path.lexists(new) and os.path.lexists(there):
                there.rename(new)
            if os.path.lexists(old):
                old.rename(there)
        raise


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    def write(file: Path) -> None:
        file.write_text(text, encoding="utf-8")

    write_atomically(path, write)


def append_lines(path: Path, lines: Iterable[str]) -> None:
    """Add lines to a file that grows by them; a kill can tear the last one alone.

    Such a piece of a line is cut off first, as `read_lines` leaves it out: else the next line would hang on to it.

    Raises:
        StorageError: they cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            whole = whole_size(path)
            if whole < path.stat().st_size:
                file.truncate(whole)
            file.write("".join(f"{line}\n" for line in lines).encode())
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error}", remedy="free some space or choose another folder; what was "
                           "kept before is still there") from error


def read_lines(path: Path) -> list[str]:
    """The whole lines of a file that grows by lines; none if there is no file. One that a kill tore is left out.

    Raises:
        UserError: they are no UTF-8.
    """
    if not path.is_file():
        return []
    whole = path.read_bytes()[:whole_size(path)]  # cut before it is decoded: a kill can fall into a letter
    try:
        return whole.decode().split("\n")[:-1]  # not splitlines: a prompt may hold other ends of lines
    except UnicodeDecodeError as error:
        raise UserError(f"{path} cannot be read: {error}", accepted="lines that expunge wrote",
                        remedy="delete the file, and what it kept is made again") from error


def packed_text(path: Path, most: int = MOST_UNPACKED) -> str:
    """A text file's contents, unpacked if its name ends in `.xz`.

    Raises:
        OSError, ValueError: it cannot be read, is not UTF-8, or holds more than `most` bytes.
    """
    check_regular(path)
    with lzma.open(path) if path.suffix == ".xz" else path.open("rb") as file:
        try:
            data = file.read(most + 1)
        except (lzma.LZMAError, EOFError) as error:
            raise ValueError(f"it is not packed as .xz, or not whole ({error})") from error
    if len(data) > most:
        raise ValueError(f"more than {most:,} bytes")
    return data.decode()


def whole_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Each whole line of a file, with the byte where it begins; none if there is no file."""
    if not path.is_file():
        return
    start, whole = 0, whole_size(path)
    with path.open("rb") as file:
        while start < whole:
            line = file.readline()
            yield start, line
            start += len(line)


def whole_size(path: Path) -> int:
    """How many bytes of a file are whole lines; looked for from its end."""
    with path.open("rb") as file:
        end = file.seek(0, 2)
        while end:
            start = max(0, end - 65536)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file atomically; the same tensors and metadata are the same bytes."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    def write(file: Path) -> None:
        try:
            save_file(dict(tensors), file, dict(metadata))
            _put_in_order(file)
        except SafetensorError as error:  # safetensors reports a full disk in its own type
            raise OSError(0, str(error)) from error

    write_atomically(path, write)


def _put_in_order(file: Path) -> None:
    """Sort the metadata in the header of a safetensors file, which the library writes in an order of chance."""
    with file.open("r+b") as stream:
        size = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(size))
        if len(header.get("__metadata__", ())) > 1:
            header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
            text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(size)
            if len(text) == size:  # the library may spell a rare sign otherwise; then it stays as it was
                stream.seek(8)
                stream.write(text)


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, as hex. Unreadable: it is no regular file."""
    check_regular(path)
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while part := stream.read(2**20):  # never a whole file in memory: it may be a model
            digest.update(part)
    return digest.hexdigest()


def text_digest(text: str) -> str:
    """sha256 of a text, as hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def readable(text: str) -> str:
    """`text` as the part of a file's name that people read: small letters of any script, digits and dashes, 40 at most.

    Different texts may end in the same words: whoever uses it tells them apart by something else (a number, a digest).
    """
    return re.sub(r"[\W_]+", "-", text.lower()).strip("-")[:40].strip("-") or "empty"


def slug(text: str) -> str:
    """`text` as a file's or folder's name of its own: different texts have different names.

    Small words with single blanks between them are the name, with dashes ("old church": old-church). Whatever that
    would change or cut (capitals, which some file systems do not tell apart, signs, length) has a digest behind it.
    """
    words = readable(text)
    if words.replace("-", " ") == text == unicodedata.normalize("NFC", text) and words not in _RESERVED:
        return words
    return f"{words[:31].strip('-')}-{text_digest(text)[:8]}"


def folder_of(parent: Path, text: str, prefix: str = "", known: Callable[[Path], bool] = lambda folder: True) -> Path:
    """The folder in `parent` that `text` names; that of an earlier version, where there is one.

    Earlier versions gave one name (`readable`) to texts that differ in capitals, signs or their ends.

    Args:
        prefix: before the name.
        known: whether a folder under the earlier name is this text's.
    """
    now, before = parent / f"{prefix}{slug(text)}", parent / f"{prefix}{readable(text)}"
    return before if before != now and not now.exists() and before.is_dir() and known(before) else now


def folder_beside(path: Path, name: str) -> Path:
    """Where results on what lies at `path` go: into its folder, under `name`; those on one of many files in a folder,
    which is not called as `expunge` calls it, under the file's name too."""
    if path.is_dir():
        return path / name
    return path.parent / (name if path.name in _OURS else f"{path.stem}-{name}")


_OURS = ("patch.safetensors", "mask.json")
"""What expunge calls the one file of its kind in a folder."""
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{k}" for port in ("com", "lpt") for k in range(10))}
"""What is no file's name on Windows."""
