"""The one door for files that anybody may have made: text, JSON, YAML, TOML, tensors, images.

What a reader here gives is plain data. Whatever else a file holds ends in an `OSError` (most often `Unreadable`),
within bounded time and memory: a caller turns that into the project's own error, and needs no other `except`. Nothing
is unpickled, nothing is imported, and nothing but a regular file is opened: a pipe or a device may never end.

A test (`tests/test_untrusted.py`) refuses other readers in the package, so that a new one is safe by default.
"""

from __future__ import annotations

import html
import json
import os
import re
import stat
import sys
import warnings
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from expunge.errors import UserError

if TYPE_CHECKING:
    import yaml
    from numpy.typing import NDArray
    from PIL.Image import Image
    from torch import Tensor

MOST_BYTES = 256 * 2**20
"""Of a text; a table of prompts for a million images has less."""
MOST_JSON = 64 * 2**20
"""Bytes of a JSON text: as Python's objects it takes some twenty times that."""
MOST_SETTINGS = 2 * 2**20
"""Bytes of a YAML or TOML text, whose readers take seconds for a megabyte."""
MOST_NODES = 500_000
"""Of a YAML text, each counted as often as aliases repeat it."""
MOST_DEEP = 100
"""Mappings and lists in one another: what walks through them later must not run out of stack."""
MOST_DIGITS = 100
"""Of a whole number; Python takes square time for reading and writing them, and no setting has more than 20."""
MOST_HEADER = 100_000_000
"""Bytes of a safetensors header, as the library itself has it."""
MOST_NAME = 1000
"""Characters of a tensor's name; those of published models have less than 200."""
MOST_PIXELS = 50_000_000
"""Larger images are refused before they are unpacked: a small file can hold an image that fills any memory."""
IMAGES = ("PNG", "JPEG", "WEBP")
"""Formats that are opened, whatever a file is called: PIL knows others, one of which runs another program."""


class Unreadable(UserError, OSError, ValueError):
    """Why a file is not read.

    An OSError, as what the system raises is; a ValueError, as what parsers raise is; and the user's error even where a
    caller does not say it in words of its own. Attributes: file, where it was met in one.
    """

    file: Path | None = None


def content(path: Path, most: int = MOST_BYTES) -> bytes:
    """What a regular file holds.

    Raises:
        OSError: it is not there, may not be read, is no regular file, or holds more than `most` bytes.
    """
    check_regular(path)
    with _met_in(path), path.open("rb") as file:
        data = file.read(most + 1)
        if len(data) > most:
            raise Unreadable(f"more than {most >> 20} MB")
    return data


def check_regular(path: Path) -> None:
    """OSError: there is nothing at `path`, or a folder, a pipe, a device or a socket."""
    with _met_in(path):
        try:
            mode = path.stat().st_mode
        except ValueError as error:  # a NUL in the name
            raise Unreadable(str(error)) from error
        if not stat.S_ISREG(mode):
            raise Unreadable("it is a folder" if stat.S_ISDIR(mode) else "it is no regular file (a pipe or a device)")


def there(path: Path) -> bool:
    """Whether anything at all stands at a path: what is no file must not pass for nothing."""
    return os.path.lexists(path)


def text(path: Path, encoding: str = "utf-8", errors: str = "strict", most: int = MOST_BYTES) -> str:
    """The text of a regular file, its ends of lines as they are read by Python. OSError: as `content`, or not encoded
    so."""
    data = content(path, most)
    with _met_in(path):
        try:
            return data.decode(encoding, errors).replace("\r\n", "\n").replace("\r", "\n")
        except UnicodeDecodeError as error:
            raise Unreadable(str(error)) from error


def json_of(path: Path) -> Any:
    """What a JSON file holds. OSError: as `text` and `json_in`."""
    with _met_in(path):
        return json_in(text(path, most=MOST_JSON))


def mapping_of(path: Path) -> dict[str, Any]:
    """What a JSON file holds, which is an object. OSError: as `json_of`, or it is none."""
    found = json_of(path)
    if not isinstance(found, dict):
        raise Unreadable(f"it holds {type(found).__name__}, and no object")
    return found


def json_in(words: str | bytes) -> Any:
    """What a JSON text holds.

    Raises:
        Unreadable: it is none, says a key twice in an object, nests deeper than `MOST_DEEP`, or has a whole number of
            more than `MOST_DIGITS` digits.
    """
    if len(words) > MOST_JSON:
        raise Unreadable(f"more than {MOST_JSON >> 20} MB")
    with _parsing():
        value = json.loads(words, object_pairs_hook=_once, parse_int=_whole)
    _check_depth(value)
    return value


def toml_in(words: str) -> Any:
    """What a TOML text holds. Unreadable: as `json_in`."""
    _check_size(words)
    with _parsing():
        value = tomllib.loads(words)
    _check_depth(value)
    _check_digits(value)
    return value


@contextmanager
def _parsing() -> Iterator[None]:
    """Inside, a parser; what it refuses is `Unreadable`."""
    try:
        yield
    except Unreadable:
        raise
    except RecursionError as error:
        raise Unreadable(_DEEP) from error
    except ValueError as error:
        raise Unreadable(str(error)) from error


def yaml_in(words: str) -> Any:
    """What a YAML text holds, by the safe loader: tags of Python's objects are refused.

    Raises:
        Unreadable: as `json_in`; or aliases that repeat what they name without end, or more than `MOST_NODES` in all.
    """
    import yaml

    _check_size(words)
    loader = None
    try:
        loader = yaml.SafeLoader(words)
        node = loader.get_single_node()
        if node is None:
            return None
        _check_nodes(node)
        value = loader.construct_document(node)
    except RecursionError as error:
        raise Unreadable(_DEEP) from error
    except Unreadable:
        raise
    except Exception as error:  # the reader's constructors raise what Python's own conversions do
        raise Unreadable(str(error) or type(error).__name__) from error
    finally:
        if loader is not None:
            loader.dispose()
    _check_depth(value)
    return value


@contextmanager
def tensors(path: Path) -> Iterator[Any]:
    """A safetensors file, opened for its keys, metadata, slices and tensors (`safetensors.safe_open`).

    Raises:
        OSError: it is not there, is no regular file, is damaged, or names a tensor twice or as no network does; also
            where that shows as a tensor is read.
    """
    from safetensors import safe_open

    check_regular(path)
    with reading_tensors(path), safe_open(path, "pt") as opened:
        _check_names(path)
        yield opened


def opened_tensors(path: Path) -> Any:
    """The same, open as long as it is held; read it inside `reading_tensors`. OSError: as `tensors`."""
    from safetensors import safe_open

    check_regular(path)
    with reading_tensors(path):
        opened = safe_open(path, "pt")
        _check_names(path)
    return opened


@contextmanager
def reading_tensors(path: Path) -> Iterator[None]:
    """Inside, an open safetensors file is read; what the library refuses is `Unreadable`, and names the file."""
    from safetensors import SafetensorError

    with _met_in(path):
        try:
            yield
        except SafetensorError as error:
            raise Unreadable(str(error)) from error


def all_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a safetensors file. OSError: as `tensors`."""
    with tensors(path) as opened:
        return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (no dict)


def unlike_weights(types: Mapping[str, str]) -> str:
    """Which tensor no network computes with, and why, in words; "" where there is none.

    Weights are plain floating-point numbers. Whole numbers and truth values, as PyTorch has them, stand beside them:
    counts, positions, masks. Any other type packs numbers that only another program unpacks.

    Args:
        types: by name, as safetensors or PyTorch spells them ("F32", "torch.float32").
    """
    for name, its in types.items():
        kind = its.removeprefix("torch.")
        if kind not in _FLOATS and (kind not in _BESIDE or name.endswith(_LEARNED)):
            return f"{shortened(name)!r} is in {kind}, as no weights are"
    return ""


WEIGHTS = "weights in float32, float16, bfloat16 or plain float8"
"""What `unlike_weights` finds nothing in, for messages."""
_FLOATS = {"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2",
           "float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"}
_BESIDE, _LEARNED = {"I64", "BOOL", "int64", "bool"}, (".weight", ".bias")


def tensors_header(path: Path) -> dict[str, Any]:
    """The header of a safetensors file, without the library: 8 bytes of length, then JSON. OSError: it has none."""
    check_regular(path)
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        words = file.read(length) if 0 < length <= MOST_HEADER else b""
    if not words or len(words) < length:
        raise Unreadable("it is no safetensors file")
    header = json_in(words)
    if not isinstance(header, dict):
        raise Unreadable("it is no safetensors file")
    return header


def pickled_tensors(path: Path) -> Any:
    """What a PyTorch file holds, by torch's reader of weights, which runs nothing and knows tensors and plain values.

    Raises:
        OSError: it is not there, is no regular file, is damaged, or holds anything else.
    """
    import torch

    check_regular(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged archive raises depends on where the damage is
        raise Unreadable((str(error) or type(error).__name__).splitlines()[0]) from error


def arrays(path: Path, names: Collection[str], most: int = 2**30) -> dict[str, NDArray[Any]]:
    """Those of the arrays in an npz that have one of the names.

    Raises:
        OSError: it is not there, is no npz, holds what numpy reads by unpickling alone, or more than `most` bytes.
    """
    import numpy as np

    check_regular(path)
    try:
        with zipfile.ZipFile(path) as packed:
            if sum(one.file_size for one in packed.infolist()) > most:
                raise Unreadable(f"more than {most >> 20} MB of arrays")
        with np.load(path, allow_pickle=False) as opened:
            return {name: np.asarray(opened[name]) for name in names if name in opened.files}
    except Exception as error:  # zip, header and value errors of many types
        raise Unreadable(str(error) or type(error).__name__) from error


@contextmanager
def image(file: Path, formats: tuple[str, ...] = IMAGES, most_pixels: int = MOST_PIXELS) -> Iterator[Image]:
    """An image file, opened and not yet unpacked.

    Raises:
        OSError: it is not there, is of another format, or has more pixels; also where it is broken, which shows as it
            is unpacked. The text is the reason, the same for all of a kind.
    """
    from PIL import Image as Images
    from PIL import UnidentifiedImageError

    check_regular(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Images.DecompressionBombWarning)  # the limit here is ours
            with Images.open(file, formats=formats) as opened:
                if opened.width * opened.height > most_pixels:
                    raise Unreadable(_large(most_pixels))
                yield opened
    except Unreadable:
        raise
    except Images.DecompressionBombError as error:
        raise Unreadable(_large(most_pixels)) from error
    except UnidentifiedImageError as error:
        raise Unreadable(_unidentified(file)) from error
    except Exception as error:  # PIL raises what its decoder happens to meet
        raise Unreadable(_BROKEN) from error


def _check_names(path: Path) -> None:
    """Unreadable: a tensor stands there twice, of which the library takes one, or its name is no network's."""
    about = path.stat()
    with _met_in(path):
        _names_checked(path, about.st_size, about.st_mtime_ns, about.st_ino)


@lru_cache(maxsize=256)  # some open a file again for each of its tensors
def _names_checked(path: Path, *stamp: int) -> None:
    for name in tensors_header(path):
        if not name.isprintable() or len(name) > MOST_NAME:
            raise Unreadable(f"it calls a tensor {shortened(name)!r}")


@contextmanager
def _met_in(path: Path) -> Iterator[None]:
    try:
        yield
    except Unreadable as error:
        error.file = path
        raise


_BROKEN, _DEEP = "broken or cut off", f"mappings or lists more than {MOST_DEEP} deep"


def _large(most: int) -> str:
    return f"more than {most:,} pixels"


def _unidentified(file: Path) -> str:
    """Why PIL sees no image: by what the file begins with."""
    with file.open("rb") as stream:
        head = stream.read(12)
    known = head.startswith((b"\x89PNG", b"\xff\xd8\xff")) or (head[:4], head[8:]) == (b"RIFF", b"WEBP")
    return _BROKEN if known else "no PNG, JPEG or WebP inside" if head else "empty file"


def _check_size(words: str) -> None:
    if len(words) > MOST_SETTINGS:
        raise Unreadable(f"more than {MOST_SETTINGS >> 20} MB of settings")


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        raise _twice(key for key, _ in pairs)
    return out


def _twice(keys: Iterator[Any]) -> Unreadable:
    seen: set[Any] = set()
    twice = next(key for key in keys if key in seen or seen.add(key))  # type: ignore[func-returns-value]
    name = twice[1] if isinstance(twice, tuple) else twice  # of YAML with its type
    return Unreadable(f"the key {shortened(name)!r} stands there twice")


def shortened(words: str, most: int = 60) -> str:
    """A text of somebody else's, short enough for a message."""
    return words if len(words) <= most else f"{words[:most]}..."


def in_markdown(words: str) -> str:
    """A text on one line, with everything that Markdown or HTML could act on escaped."""
    return re.sub(r"([\\`*_\[\]|#~!$])", r"\\\1", html.escape(" ".join(words.split()), quote=False))


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise Unreadable(f"a whole number of {len(digits)} digits")
    return int(digits)


def _inside(level: Collection[Any]) -> list[Any]:
    return [child for item in level if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)]


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MOST_DEEP):
        level = [child for child in _inside(level) if isinstance(child, dict | list)]
        if not level:
            return
    raise Unreadable(_DEEP)


def _check_digits(value: Any) -> None:
    level = [value]
    while level:
        if any(isinstance(item, int) and abs(item) >= 10**MOST_DIGITS for item in level):
            raise Unreadable(f"a whole number of more than {MOST_DIGITS} digits")
        level = _inside(level)


def _check_nodes(top: yaml.Node) -> None:
    """Unreadable: keys that stand twice, numbers that are too long, or aliases that make more of a text than it is."""
    import yaml

    sizes: dict[int, int] = {}
    begun: set[int] = set()

    def size(node: yaml.Node) -> int:
        if isinstance(node, yaml.ScalarNode):
            if len(node.value) > MOST_DIGITS and node.tag in _NUMBERS:
                raise Unreadable(f"a number of {len(node.value)} digits")
            return 1
        if id(node) in begun:
            raise Unreadable("an alias for what it stands in")
        if id(node) not in sizes:
            begun.add(id(node))
            sizes[id(node)] = 1 + sum(map(size, _children(node)))
            begun.remove(id(node))
        if sizes[id(node)] > MOST_NODES:
            raise Unreadable(f"more than {MOST_NODES:,} values, aliases counted as often as they stand there")
        return sizes[id(node)]

    size(top)


_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


def _children(node: yaml.Node) -> list[yaml.Node]:
    import yaml

    if isinstance(node, yaml.SequenceNode):
        return list(node.value)
    keys = [(key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
    if len(set(keys)) < len(keys):
        place = f" (line {node.start_mark.line + 1})"
        raise Unreadable(f"{_twice(iter(keys))}{place}")
    return [one for pair in node.value for one in pair]
