"""Whether what lies in a folder may be gone on from: one rule for everything that can be stopped and started again.

Whatever is kept tells its `Inputs`, all that decides its results: their digest, and their values for people. Work that
was begun under other inputs is refused before anything is computed or written, with what differs. Files of earlier
versions tell the digest alone; they go on, or are refused without the names.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from expunge.errors import ConfigError, ExpungeError, ModelError
from expunge.files import text_digest

log = logging.getLogger(__name__)

Kept = TypeVar("Kept")
LONGEST = 40
"""Letters of a value in a message."""
MOST = 4
"""Differences in a message."""


@dataclass(frozen=True)
class Inputs:
    """All that decides the results of a piece of work.

    Attributes:
        values: JSON-able, by name; their order is that of the digest.
        former: what earlier versions wrote for some of them, of equal meaning.
        defaults: in the form of `values`: what lacks a setting that is at its default was made without that setting.
        added: names of values that earlier versions did not write; what lacks them is compared without them.
    """

    values: Mapping[str, Any]
    former: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    added: frozenset[str] = frozenset()

    @property
    def digest(self) -> str:
        """sha256 of the values, as hex."""
        return _digest(self.values)

    @property
    def record(self) -> dict[str, Any]:
        """What is kept beside the results, JSON-able."""
        return {"fingerprint": self.digest, "inputs": _as_json(self.values)}

    def compared(self, before: Any) -> tuple[list[str], list[str]]:
        """What differs from earlier values ("settings.steps 160, now 200"), and what is new and at its default."""
        now = _as_json(self.values)
        if isinstance(before, Mapping):
            for key, old in _as_json(self.former).items():
                if key in before and _gaps(before[key], old) < _gaps(before[key], now[key]):
                    now[key] = old
        return _compared(before, now, self.defaults)

    def check(self, place: Path | str, record: Mapping[str, Any]) -> None:
        """Raise ConfigError if what lies at `place` was begun under other inputs.

        Args:
            record: of what lies there: `fingerprint` and `inputs`, or what it has of them. Inputs that it does not tell
                are compared by the fingerprint alone.
        """
        fingerprint, before = record.get("fingerprint"), record.get("inputs")
        before = before if isinstance(before, dict) else {}
        if fingerprint is not None and self._is_mine(str(fingerprint)):
            return
        untold = [name for name in self.values if name not in before and name not in self.added]
        differs, _ = self.compared({**_as_json({name: self.values[name] for name in untold}), **before})
        if differs or (fingerprint is not None and untold):
            raise refusal(f"{place} was", shortened(differs)
                          or f"in one of {', '.join(untold)}: an earlier version did not write down which")

    def _is_mine(self, fingerprint: str) -> bool:
        """Whether a digest is of these values; earlier versions cut it, or did not sort the settings inside."""
        older = {name: value for name, value in self.values.items() if name not in self.added}
        mine = [_digest(values, order) for known in (self.values, older) for values in (known, {**known, **self.former})
                for order in (True, False)]
        return len(fingerprint) >= 16 and any(digest.startswith(fingerprint) for digest in mine)


def refusal(what: str, differs: str, accepted: str = "the settings under which it was begun",
            remedy: str = "choose another output folder, or delete it to start over") -> ConfigError:
    """The error of work that was begun otherwise. `what`: with its verb ("out/attempts.jsonl was")."""
    return ConfigError(f"{what} begun under other settings ({differs})", accepted=accepted, remedy=remedy)


def shortened(differs: Sequence[str]) -> str:
    """The first differences."""
    return ", ".join(differs[:MOST]) + ", ..." * (len(differs) > MOST)


def damaged(file: Path, error: Exception) -> ModelError:
    """The error of a file that cannot be gone on from."""
    return ModelError(f"{file} is damaged: {error}", remedy="delete it to start over")


def kept(read: Callable[[Path], Kept], folder: Path, name: str) -> Kept | None:
    """What an earlier run left in `folder`; None if there is no file `name`, or it is damaged: it is made again."""
    if not (folder / name).is_file():
        return None
    try:
        return read(folder)
    except ExpungeError as error:
        log.warning("%s; it is made again", error)
        return None


def _digest(values: Mapping[str, Any], ordered: bool = True) -> str:
    return text_digest(json.dumps([*values.values()], sort_keys=ordered))


def _as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON gives it back."""
    out: dict[str, Any] = json.loads(json.dumps(dict(values)))
    return out


def _compared(before: Any, now: Any, default: Any, name: str = "") -> tuple[list[str], list[str]]:
    differs, new = list[str](), list[str]()
    if not (isinstance(before, Mapping) and isinstance(now, Mapping)):
        return ([] if before == now else [f"{name or 'all of it'} {_pair(before, now)}"]), new
    plain = default if isinstance(default, Mapping) else {}
    for key in dict.fromkeys([*before, *now]):
        place = f"{name}.{key}" if name else key
        if key not in before and key in plain and plain[key] == now[key]:
            new.append(f"{place} {_short(json.dumps(now[key], ensure_ascii=False))}")
            continue
        odd, more = _compared(before.get(key), now.get(key), plain.get(key), place)
        differs, new = differs + odd, new + more
    return differs, new


def _gaps(before: Any, now: Any) -> int:
    return len(_compared(before, now, None)[0])


def _pair(before: Any, now: Any) -> str:
    """Both values, from where they differ if they are long."""
    one, other = (json.dumps(value, ensure_ascii=False) for value in (before, now))
    same = next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)
    if max(len(one), len(other)) > LONGEST and same > LONGEST // 2:
        one, other = (f"...{text[same - 10:]}" for text in (one, other))
    return f"{_short(one)}, now {_short(other)}"


def _short(text: str) -> str:
    if re.fullmatch('"[0-9a-f]{32,}"', text):  # a digest
        return f'{text[:13]}"'
    return text if len(text) <= LONGEST else f"{text[:LONGEST - 3]}..."
