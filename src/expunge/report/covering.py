"""Taking known prompts and names of folders out of a whole record, whatever field or key they stand in.

A copy to hand out is walked text by text, so that a field which is added to a record later is covered as well.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_origin

from expunge.records import HUB_NAME, AttackExample, ImageStrip, Record

Walked = TypeVar("Walked", bound=Record)
LEFT_OUT = "(left out of this copy)"
_ROOTED = re.compile(r"~|\.{0,2}[/\\]|[A-Za-z]:[/\\]")
_SUFFIX = re.compile(r"\.(?:csv|tsv|txt|jsonl?|ya?ml|toml|parquet|safetensors|ckpt|pth?|bin|npz|zip|png|jpe?g|webp|"
                     r"html|md)$", re.IGNORECASE)
_SETTINGS = "settings"
_FREE_PATH = re.compile(r"(?<![\w:/\\.~-])(?:[A-Za-z]:[/\\]|~[\w.-]*/|\.{1,2}/|/(?=[^\s/]+/))[^\s'\"“”‘’,;()<>|]+")
"""A path in a sentence, as far as its end can be told."""
_QUOTED = re.compile(r"“([^”]*)”|(?<!\w)'((?:[^'\\]|\\.|(?<=\w)'(?=\w))*)'(?!\w)|(?<!\w)\"((?:[^\"\\]|\\.)*)\"(?!\w)")
_MODELS = frozenset({"model", "base", "clip"})
"""Fields and settings that may hold a Hub id."""
_FILES = frozenset({"prompts", "out", "file", "folder", "path", "data", "pictures"})
"""Settings whose text is a place on somebody's disk."""
_IN_PLACE: dict[type[Record], frozenset[str]] = {ImageStrip: frozenset({"original", "edited"}),
                                                 AttackExample: frozenset({"original", "edited", "found"})}
"""Files of the copy itself, which it needs to show its images."""


class Covering:
    """What is taken out of every text of a record: prompts, each by a number of its own, and folders."""

    def __init__(self, prompts: Iterable[str] = (), spared: Collection[str] = (), paths: Iterable[str] = (),
                 quotes: bool = False) -> None:
        """Args:
            prompts: what is taken out wherever it stands as words of their own.
            spared: names and prompts that stay (case does not count), even where they are among `prompts`.
            paths: of each its last part stays.
            quotes: also take out whatever a sentence quotes that has several words and is not spared.
        """
        self._spared = {_plain(text) for text in spared}
        self._names: dict[str, str] = {}
        every = [text for text in prompts if text.strip() and _plain(text) not in self._spared]
        self._prompts = _any_of({variant for text in every for variant in _written(text)})
        for text in every:
            self.name(text)
        self._paths = {path: last for path in paths if (last := _last(path)) != path}
        self._places = _any_of(self._paths, r"[\w/\\]")
        self._quotes = quotes

    def name(self, prompt: str) -> str:
        """What stands for `prompt`: the same wherever it stood."""
        return self._names.setdefault(prompt, f"{LEFT_OUT[:-1]}, prompt {len(self._names) + 1})")

    def _called(self, found: str) -> str:
        """`name` of a prompt that stands in a sentence, perhaps in other letters."""
        alike = (prompt for prompt in self._names if _plain(prompt) == _plain(found))
        return self.name(found if found in self._names else next(alike, found))

    def walk(self, record: Walked) -> Walked:
        """A copy of `record` with nothing in it that is to be left out, in whatever it holds: fields, keys, sequences.
        """
        walked: Walked = self._walk(record, "")
        return walked

    def _walk(self, value: Any, key: str) -> Any:
        if isinstance(value, str):
            return self.text(_place(value, key))
        if isinstance(value, Record):
            still = _IN_PLACE.get(type(value), frozenset())
            fields = {name: field for name, field in type(value).model_fields.items()
                      if name not in still and get_origin(field.annotation) is not Literal}
            return value.model_copy(update={name: self._walk(getattr(value, name), name) for name in fields})
        if isinstance(value, Mapping):
            inside = f"{_SETTINGS}." if key.startswith(_SETTINGS) else ""
            out: dict[Any, Any] = {}
            for name, inner in value.items():
                short = self._walk(name, "")
                again = sum(1 for one in out if one == short or str(one).startswith(f"{short} ("))
                out[f"{short} ({again + 1})" if short in out else short] = self._walk(inner, f"{inside}{name}")
            return out
        if isinstance(value, list | tuple):
            return type(value)(self._walk(inner, key) for inner in value)
        return value

    def text(self, text: str) -> str:
        """`text` without prompts and folders."""
        if self._places is not None:
            text = self._places.sub(lambda found: self._paths[found[0]], text)
        text = _FREE_PATH.sub(lambda found: _last(found[0]), text)
        if self._prompts is not None:
            text = self._prompts.sub(lambda found: self._called(found[0]), text)
        return _QUOTED.sub(self._quoted, text) if self._quotes else text

    def _quoted(self, found: re.Match[str]) -> str:
        inner = next(group for group in found.groups() if group is not None)
        stays = len(inner.split()) < 2 or _plain(inner) in self._spared or LEFT_OUT[:-1] in inner
        return found[0] if stays else self.name(inner)


def without_folders(record: Walked) -> Walked:
    """The record with files and models by their own names, for a page that others read."""
    return Covering(paths=paths_in(record)).walk(record)


def paths_in(value: Any, key: str = "") -> Iterator[str]:
    """Every text of a record that is as a whole a path on somebody's disk; not what may as well be a score's name."""
    if isinstance(value, str):
        sure = _ROOTED.match(value) or _SUFFIX.search(value) or key.rpartition(".")[2] in _MODELS
        if sure and _place(value, key) != value:
            yield value
            plain = value.removeprefix("./")
            if HUB_NAME.fullmatch(plain):
                yield plain  # the same folder, as it was typed
    elif isinstance(value, Record):
        for name in type(value).model_fields:
            if name in {"settings", *_MODELS} or not isinstance(getattr(value, name), str):
                yield from paths_in(getattr(value, name), name)
    elif isinstance(value, Mapping):
        inside = f"{_SETTINGS}." if key.startswith(_SETTINGS) else ""
        for name, inner in value.items():
            yield from paths_in(inner, f"{inside}{name}")
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from paths_in(inner, key)


def _place(text: str, key: str) -> str:
    """`text`, where it is a path as a whole its last part alone.

    Two parts under a model's key are a Hub id, unless a folder here is called so: of an own one a record says "./a/b".
    """
    path, of = text.strip().replace("\\", "/").rstrip("/"), key.rpartition(".")[2]
    one_word, told_place = not any(map(str.isspace, path)), of in _MODELS or key.startswith(_SETTINGS)
    if "/" not in path or "://" in path or not (one_word or told_place or of in _FILES):
        return text
    if _ROOTED.match(text.strip()) or of in _FILES or _SUFFIX.search(path):
        return _last(text)
    if HUB_NAME.fullmatch(path):
        return _last(text) if told_place and Path(path).exists() else text
    return _last(text) if of in _MODELS or (one_word and key.startswith(_SETTINGS)) else text


def _last(path: str) -> str:
    return path.strip().replace("\\", "/").rstrip("/").rpartition("/")[2] or LEFT_OUT


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _written(text: str) -> set[str]:
    """A text as it is, and as Python and JSON write it between quotes."""
    return {text, repr(text)[1:-1], text.replace("\\", "\\\\").replace('"', '\\"')}


def _any_of(texts: Collection[str], beside: str = r"\w") -> re.Pattern[str] | None:
    """Finds any of the texts where it is not a part of a longer word; the longest first."""
    if not texts:
        return None
    each = "|".join(r"\s+".join(map(re.escape, text.split())) if text.strip() else re.escape(text)
                    for text in sorted(texts, key=len, reverse=True))
    return re.compile(rf"(?<!{beside})(?:{each})(?!\w)", re.IGNORECASE)
