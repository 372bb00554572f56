"""What the judge saw in images that no attack made, kept by line: a suite that goes on draws none of them again."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from expunge import untrusted
from expunge.files import append_lines, read_lines, text_digest


class Sights:
    """A file of answers, by all that decides them.

    What failed is not kept: it is asked for again.
    """

    def __init__(self, file: Path) -> None:
        """Answers in `file`, if there is one; lines of something else are skipped."""
        self._file, self._known = file, dict[str, bool]()
        for line in read_lines(file):
            try:
                stored = untrusted.json_in(line)
                self._known[str(stored["of"])] = bool(stored["found"])
            except (ValueError, KeyError, TypeError):
                continue

    def found(self, keys: Sequence[Any], look: Callable[[list[int]], list[tuple[bool, str]]]) -> list[tuple[bool, str]]:
        """(whether it was found, why that is not known) for each of the JSON-able `keys`.

        Args:
            look: asked for the places of those that are not known.
        """
        names = [text_digest(json.dumps(key, sort_keys=True, default=str))[:24] for key in keys]
        missing = [place for place, name in enumerate(names) if name not in self._known]
        seen = dict(zip(missing, look(missing) if missing else [], strict=True))
        fresh = {names[place]: found for place, (found, error) in seen.items() if not error}
        append_lines(self._file, (json.dumps({"of": name, "found": found}) for name, found in fresh.items()))
        self._known |= fresh
        return [seen.get(place, (self._known.get(name, False), "")) for place, name in enumerate(names)]
