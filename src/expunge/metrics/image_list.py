"""A list of (file, prompt, seed) beside a folder of images: a table or JSON, read as lists of prompts are.

A text is a text, also where it reads "nan" or "NULL". Every row is read or counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from expunge.errors import ConfigError
from expunge.records.json_lists import is_json, read_json_cells
from expunge.records.tables import EMPTY_ROW, NAMES, Cells, chosen_columns, numbers, read_cells, too_wide, usual_columns

COLUMNS = {"file": ("file", "file_name", "filename", "image"), "prompt": NAMES["text"], "seed": NAMES["seed"]}
"""What a column may be called, where the caller does not say; the first that is there counts."""
NO_FILE, NO_SEED, TWICE_LISTED = ("row without a file's name", "row without a seed from 0 to 2**64 - 1",
                                  "file listed twice")


@dataclass(frozen=True)
class Listed:
    """One row: the image's path in the folder, what it was drawn for, and the seed; None where there is no column."""

    file: str
    prompt: str | None
    seed: int | None


def read_list(path: Path, columns: Mapping[str, str] | None = None) -> tuple[list[Listed], dict[str, int]]:
    """The rows in their order, and how many were left out by reason.

    Args:
        columns: which column is the file, the prompt and the seed; those not named are looked for under `COLUMNS`.

    Raises:
        ConfigError: it cannot be read, or has no column of files.
    """
    cells = read_json_cells(path) if is_json(path) else read_cells(path)
    found = _columns(path, cells, columns or {})
    wide = too_wide(cells.heads, cells.rows)
    out: dict[str, Listed] = {}
    left_out = Counter({EMPTY_ROW: cells.empty} if cells.empty else {})
    for number, row in enumerate(cells.rows):
        held = {what: row[place] if place < len(row) else "" for what, place in found.items()}
        name = PurePosixPath(held["file"].strip().replace("\\", "/")).as_posix()
        seed = numbers({"seed": held.get("seed", "").strip()})[0].get("seed")
        if number in wide:
            left_out[wide[number]] += 1
        elif name in ("", "."):
            left_out[NO_FILE] += 1
        elif "seed" in found and seed is None:
            left_out[NO_SEED] += 1
        elif name in out:
            left_out[TWICE_LISTED] += 1
        else:
            out[name] = Listed(name, held.get("prompt"), None if seed is None else int(seed))
    return list(out.values()), dict(left_out)


def _columns(path: Path, cells: Cells, chosen: Mapping[str, str]) -> dict[str, int]:
    heads = [head.strip().strip("\ufeff") for head in cells.heads]
    found = {**usual_columns(heads, COLUMNS), **chosen_columns(path, heads, chosen)}
    if "file" not in found:
        raise ConfigError(f"{path} has no column of files: its columns are {', '.join(filter(None, heads)) or 'none'}",
                          accepted=f"a column {' or '.join(COLUMNS['file'])}, or a name for it")
    return found
