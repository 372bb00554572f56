"""Lists of prompts as JSON and JSONL (a value on each line): texts, or objects with the keys of a table's columns.

An object of lists, with roles or concepts for keys, is what a settings file of the same would be.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from expunge import untrusted
from expunge.errors import ConfigError
from expunge.records.tables import Cells, PromptTable, read_text, table_of_objects

JSON = (".json", ".jsonl", ".ndjson")
_ACCEPTED = "a list of texts, a list of objects with the keys of a table's columns, or an object of lists by role"


def is_json(file: Path) -> bool:
    """Whether a file is read as JSON, by its ending."""
    return file.suffix.lower() in JSON


def read_json_list(file: Path) -> tuple[str, ...] | PromptTable | dict[str, Any]:
    """The texts of a list of texts, the table of a list of objects, or the object of a file that holds one.

    Texts among objects are rows that hold nothing else. Rows count from 1, blank lines apart.

    Raises:
        ConfigError: it cannot be read or parsed, says a key twice, or holds something else; an item that is neither a
            text nor a flat object, by its row; objects of which none has a text.
    """
    rows = _lines(file) if file.suffix.lower() != ".json" else _whole(file)
    if isinstance(rows, dict):
        return rows
    _check_flat(file, rows)
    if all(isinstance(item, str) for _, item in rows):
        return tuple(item for _, item in rows)
    return table_of_objects(file, [_cells(item) for _, item in rows])


def read_json_cells(file: Path) -> Cells:
    """A list of objects, their keys as headers; "" where an object lacks a key.

    Raises:
        ConfigError: as `read_json_list`, and an object at the top.
    """
    rows = _lines(file) if file.suffix.lower() != ".json" else _whole(file)
    if isinstance(rows, dict):
        raise ConfigError(f"{file} holds an object", accepted="a list of texts or of objects")
    _check_flat(file, rows)
    cells = [_cells(item) for _, item in rows]
    heads = list(dict.fromkeys(key for one in cells for key in one))
    filled = [one for one in cells if any(map(str.strip, one.values()))]
    return Cells(heads, [[one.get(head, "") for head in heads] for one in filled], len(cells) - len(filled))


def _check_flat(file: Path, rows: Sequence[tuple[int, Any]]) -> None:
    odd = [f"row {number}: got {json.dumps(item, ensure_ascii=False)[:60]}" for number, item in rows
           if not isinstance(item, str) and not _flat(item)]
    if odd:
        raise ConfigError(f"{file}: {'; '.join(odd[:6])}{'; ...' if odd[6:] else ''}",
                          accepted="rows that are a text, or an object of texts and numbers")


def _cells(item: Any) -> dict[str, str]:
    return {"text": item} if isinstance(item, str) else {key: _cell(value) for key, value in item.items()}


def _whole(file: Path) -> list[tuple[int, Any]] | dict[str, Any]:
    found = _parsed(file, read_text(file), "")
    if isinstance(found, dict):
        return found
    if not isinstance(found, list):
        raise ConfigError(f"{file} holds {json.dumps(found)[:60]}", accepted=_ACCEPTED)
    return list(enumerate(found, 1))


def _lines(file: Path) -> list[tuple[int, Any]]:
    return [(number, _parsed(file, line, f", line {number}"))
            for number, line in enumerate(read_text(file).split("\n"), 1) if line.strip()]


def _parsed(file: Path, text: str, where: str) -> Any:
    try:
        return untrusted.json_in(text)
    except ValueError as error:
        raise ConfigError(f"{file}{where} cannot be parsed: {error}", accepted=_ACCEPTED) from error


def _flat(item: Any) -> bool:
    return isinstance(item, dict) and not any(isinstance(value, dict | list) for value in item.values())


def _cell(value: Any) -> str:
    """As a table would have it; "" for null."""
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)
