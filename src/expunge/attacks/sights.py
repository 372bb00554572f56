"""What the judge saw in images that no attack made, kept by line: a suite that goes on draws none of them again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from expunge.files import append_lines, read_lines, text_digest
from expunge.runtime import Runtime
from expunge.sealed import mend_lines, sealed_line, unsealed_line


class Sights:
    """A file of answers, by all that decides them. What failed is not kept: it is asked for again.

    Several processes share the looking out, and call it alike; each then has all answers, and one writes them.
    """

    def __init__(self, file: Path, processes: Runtime) -> None:
        """Answers in `file`, if there is one; lines of something else are skipped, damaged ones taken out."""
        self._file, self._processes = file, processes
        if processes.main:
            mend_lines(file)
        told = dict(enumerate(_known(read_lines(file)))) if processes.main else {}  # the file grows while others read
        self._known: dict[str, bool] = dict(processes.gather(told))

    def found(self, keys: Sequence[Any], look: Callable[[list[int]], list[tuple[bool, str]]], size: int
              ) -> list[tuple[bool, str]]:
        """(whether it was found, why that is not known) for each of the JSON-able `keys`.

        Args:
            look: asked for the places of those that are not known.
            size: so many of them are looked at together.
        """
        processes = self._processes
        names = [text_digest(json.dumps(key, sort_keys=True, default=str))[:24] for key in keys]
        missing = [place for place, name in enumerate(names) if name not in self._known]
        mine = processes.shard_batches(missing, size)
        looked = zip(mine, look(mine) if mine else [], strict=True)
        seen = {place: (found, error) for place, found, error in
                processes.gather({place: (place, found, error) for place, (found, error) in looked})}
        fresh = {names[place]: found for place, (found, error) in seen.items() if not error}
        if processes.main:
            append_lines(self._file, (sealed_line({"of": name, "found": found}) for name, found in fresh.items()))
        self._known |= fresh
        return [seen.get(place, (self._known.get(name, False), "")) for place, name in enumerate(names)]


def _known(lines: Iterable[str]) -> Iterator[tuple[str, bool]]:
    for line in lines:
        try:
            stored = unsealed_line(line)
            yield str(stored["of"]), bool(stored["found"])
        except (ValueError, KeyError, TypeError):
            continue
