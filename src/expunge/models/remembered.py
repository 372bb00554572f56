"""Digests of a model that were taken before, so that opening it does not read gigabytes to name it.

A model's files (its folder's; a single file, the folder that lends it parts, LoRAs) are known again by place, size,
time of change and inode, as a build tool knows them: who puts other bytes under all of these is not noticed. So
whatever signs, exports or verifies asks for `fresh` ones. What is remembered lies in the cache, under `digests`;
damaged or lost, it is taken anew.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from expunge import files, runtime, untrusted
from expunge.errors import StorageError
from expunge.models.cache_size import mark, root

SCHEME = 3
"""Raised whenever other digests are taken, or the same otherwise."""
WORTH = 64 * 2**20
"""Bytes of a model from which on its digests are remembered: smaller ones are hashed in no time."""
SETTLED = 2.0
"""Seconds after which a changed file has another time of change: younger ones are not remembered."""

Digests = dict[str, str]


def digests(places: Sequence[Path], take: Callable[[], Mapping[str, str]], *, about: str = "", fresh: bool = False
            ) -> Digests:
    """What `take` says of the model in these folders and files, or said when they were the same.

    Args:
        about: what else decides it (which of several files are read, what is made of them).
        fresh: take them in any case; what is remembered is replaced.
    """
    stamp = _stamp(places)
    if sum(size for _, size, _, _ in stamp) < WORTH:
        return dict(take())
    versions = {name: version for name, version in runtime.versions().items() if name != "expunge"}
    where = [str(place.resolve()) for place in places]
    key = files.text_digest(json.dumps([SCHEME, about, versions, where, stamp], sort_keys=True))
    place = root() / "digests" / f"{key[:32]}.json"
    if not fresh and (known := _read(place)) is not None:
        return known
    taken = dict(take())
    if _stamp(places) == stamp and time.time() - max(changed for _, _, changed, _ in stamp) / 1e9 > SETTLED:
        with suppress(StorageError):  # a cache that cannot be written costs time, and nothing else
            files.write_json(place, taken)
            mark(root())
    return taken


def _stamp(places: Sequence[Path]) -> list[tuple[str, int, int, int]]:
    """Name, size, time of change in ns and inode of every file, place by place."""
    stamps = []
    for number, place in enumerate(places):
        for file in [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file()):
            about = file.stat()
            name = f"{number}/{file.relative_to(place).as_posix()}"
            stamps.append((name, about.st_size, about.st_mtime_ns, about.st_ino))
    return stamps


def _read(place: Path) -> Digests | None:
    try:
        stored = untrusted.json_of(place)
    except (OSError, ValueError):
        return None
    fine = isinstance(stored, dict) and stored and all(isinstance(value, str) for value in stored.values())
    return dict(stored) if fine else None
