"""A list of (file, prompt, seed) beside a folder of images: CSV or JSONL, read as it stands.

A text is a text, also where it reads "nan" or "NULL"; a byte order mark is no part of the first column's name.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from expunge.errors import UserError

NAMES = {"file": ("file", "file_name", "filename", "image"), "prompt": ("prompt", "text", "caption"),
         "seed": ("seed", "evaluation_seed")}
"""What a column may be called, where the caller does not say; the first that is there counts."""
_SEEDS = 2**64


@dataclass(frozen=True)
class Listed:
    """One row: the image's path in the folder, what it was drawn for, and the seed; None where there is no column."""

    file: str
    prompt: str | None
    seed: int | None


def read_list(path: Path, columns: Mapping[str, str] | None = None) -> tuple[list[Listed], dict[str, int]]:
    """The rows in their order, and how many were left out by reason.

    Args:
        columns: which column is the file, the prompt and the seed; those not named are looked for under `NAMES`.

    Raises:
        UserError: it cannot be read, is neither CSV nor JSONL, or has no column of files.
    """
    rows = _rows(path)
    there = list(rows[0]) if rows else []
    found = {what: _column(what, there, columns or {}, path) for what in NAMES}
    out: dict[str, Listed] = {}
    left_out: dict[str, int] = {}

    def leave(reason: str) -> None:
        left_out[reason] = left_out.get(reason, 0) + 1

    for row in rows:
        values = {what: None if column is None else row.get(column) for what, column in found.items()}
        if not any(str(value or "").strip() for value in row.values()):
            leave("empty row")
            continue
        name = PurePosixPath(str(values["file"] or "").strip().replace("\\", "/")).as_posix()
        seed = _seed(values["seed"]) if found["seed"] else None
        if name in ("", "."):
            leave("row without a file's name")
        elif found["seed"] and seed is None:
            leave("row without a seed from 0 to 2**64 - 1")
        elif name in out:
            leave("file listed twice")
        else:
            prompt = values["prompt"]
            out[name] = Listed(name, None if found["prompt"] is None else str("" if prompt is None else prompt), seed)
    return list(out.values()), left_out


def _rows(path: Path) -> list[dict[str, object]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix.lower() in (".jsonl", ".ndjson"):
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
            if not all(isinstance(row, dict) for row in rows):
                raise ValueError("a line that is no object")
            return rows
        table = csv.DictReader(io.StringIO(text), strict=True)
        return [{name: value for name, value in row.items() if name is not None} for row in table]
    except (OSError, ValueError, csv.Error) as error:  # a UnicodeDecodeError is a ValueError
        raise UserError(f"{path} cannot be read: {error}",
                        accepted="CSV with a line of column names, or JSONL, in UTF-8") from error


def _column(what: str, there: list[str], columns: Mapping[str, str], path: Path) -> str | None:
    if what in columns:
        if there and columns[what] not in there:
            raise UserError(f"{path} has no column {columns[what]!r}", accepted=", ".join(map(repr, there)))
        return columns[what]
    found = next((name for name in NAMES[what] if name in there), None)
    if found is None and what == "file":
        raise UserError(f"{path} has no column of files ({', '.join(map(repr, there)) or 'no rows'})",
                        accepted=f"a column {' or '.join(NAMES['file'])}, or a name for it")
    return found


def _seed(value: object) -> int | None:
    try:
        number = int(str(value).strip())
    except ValueError:
        return None
    return number if 0 <= number < _SEEDS else None
