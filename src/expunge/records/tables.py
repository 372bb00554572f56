"""Lists of prompts as tables: CSV in the dialects of spreadsheets, with the column names that the field uses.

A column is known by its header, whatever its capitals, blanks and dashes. The first name of each kind that a table has
is used; every other column is ignored, and `Table.ignored` names it. Numbers may be empty; a row whose number cannot be
read has no such thing as a usual value, so it is left out with its reason.

Source of the names: I2P (prompt, sd_seed, sd_guidance_scale, sd_image_width, sd_image_height), UnlearnDiffAtk and ESD
(case_number, prompt, evaluation_seed, evaluation_guidance, artist), UCE (class), MACE (type: erased, others),
MMA-Diffusion (adv_prompt), Ring-A-Bell ("sensitive prompt"), COCO captions (image_id, text). Differs: none is required
but the text.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from expunge.errors import ConfigError

NAMES: dict[str, tuple[str, ...]] = {
    "text": ("text", "prompt", "prompts", "adv_prompt", "sensitive_prompt", "caption"),
    "role": ("role",),
    "type": ("type",),
    "label": ("label", "class", "concept", "object", "artist", "celebrity", "character", "profession"),
    "seed": ("seed", "evaluation_seed", "eval_seed", "sd_seed"),
    "guidance": ("guidance", "evaluation_guidance", "guidance_scale", "sd_guidance_scale", "cfg_scale"),
    "width": ("width", "image_width", "sd_image_width"),
    "height": ("height", "image_height", "sd_image_height"),
    "size": ("size", "image_size", "sd_image_size", "resolution"),
    "case": ("case", "case_number", "case_num", "id", "image_id"),
}
"""What headers may be called, by what they hold."""
TABLES = (".csv", ".tsv")
_SEPARATORS = ",;\t|"
_NOTHING = ("", "none", "null", "na")
"""What programs write where there is nothing. "nan" is none of them: nothing can be drawn with it, which is said."""


@dataclass(frozen=True)
class Table:
    """A list of prompts.

    Attributes:
        file: where it came from.
        columns: the header of each column that is used, by what it holds (`NAMES`).
        ignored: the headers of the others.
        rows: the cells of each row, by what they hold; without blanks around them but for texts.
    """

    file: Path
    columns: Mapping[str, str]
    ignored: tuple[str, ...]
    rows: tuple[Mapping[str, str], ...]


def is_table(file: Path) -> bool:
    """Whether a file is read as a table, by its ending."""
    return file.suffix.lower() in TABLES


def read_text(file: Path) -> str:
    """The text of a user's list, without a byte order mark; UTF-8, or what its byte order mark says.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        data = file.expanduser().read_bytes()
        wide = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        return io.StringIO(data.decode("utf-16" if wide else "utf-8-sig"), newline=None).read()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read prompts from {file}: {error}", accepted="text in UTF-8",
                          remedy="save it again as CSV UTF-8") from error


def read_table(file: Path, must: tuple[str, ...] = ("text",), names: Mapping[str, tuple[str, ...]] = NAMES) -> Table:
    """The rows of a CSV or TSV file, in their order.

    Args:
        must: what there has to be a column for. names: what headers may be called, by what they hold.

    Raises:
        ConfigError: it cannot be read, is empty, or lacks such a column: the names that would do are in the message.
    """
    text = read_text(file)
    first, _, rest = text.partition("\n")
    told = re.fullmatch(r"sep=(.)\s*", first)  # what Excel writes and reads
    text, separators = (rest, told[1]) if told else (text, _SEPARATORS)
    try:
        tried = [list(csv.reader(io.StringIO(text), delimiter=one, skipinitialspace=True)) for one in separators]
    except csv.Error as error:
        raise ConfigError(f"cannot read prompts from {file}: {error}", accepted="a CSV file") from error
    known = [_known(rows[0], names) if rows else {} for rows in tried]
    best = max(range(len(tried)), key=lambda k: (len(known[k]), len(tried[k][0]) if tried[k] else 0))
    rows = tried[best]
    return table_of(file, rows[0] if rows else [], [row for row in rows[1:] if any(map(str.strip, row))], must, names)


def table_of(file: Path, heads: Sequence[str], rows: Sequence[Sequence[str]], must: tuple[str, ...] = ("text",),
             names: Mapping[str, tuple[str, ...]] = NAMES) -> Table:
    """The table of these rows under these headers.

    Raises:
        ConfigError: it lacks a column that must be there.
    """
    heads, columns = [head.strip() for head in heads], _known(heads, names)
    _check(file, columns, heads, must, names)
    used = {place: what for what, place in columns.items()}
    cells = [{used[place]: _stripped(used[place], cell) for place, cell in enumerate(row) if place in used}
             for row in rows]
    return Table(file, {what: heads[place] for what, place in columns.items()},
                 tuple(head for place, head in enumerate(heads) if head and place not in used), tuple(cells))


def table_of_objects(file: Path, rows: Sequence[Mapping[str, str]], must: tuple[str, ...] = ("text",),
                     names: Mapping[str, tuple[str, ...]] = NAMES) -> Table:
    """The table of rows that each name their own cells, which need not call them alike.

    Raises:
        ConfigError: none of them has a cell that must be there.
    """
    called = [{what: [*row][place] for what, place in _known([*row], names).items()} for row in rows]
    columns = {what: head for its in reversed(called) for what, head in its.items()}
    heads, used = dict.fromkeys(head for row in rows for head in row), {head for its in called for head in its.values()}
    _check(file, columns, [*heads], must, names)
    cells = [{what: _stripped(what, row[head]) for what, head in its.items()}
             for row, its in zip(rows, called, strict=True)]
    return Table(file, columns, tuple(head for head in heads if head not in used), tuple(cells))


def _check(file: Path, columns: Collection[str], heads: Sequence[str], must: tuple[str, ...],
           names: Mapping[str, tuple[str, ...]]) -> None:
    missing = [what for what in must if what not in columns]
    if missing:
        raise ConfigError(f"{file} has no column for {' and '.join(missing)}: its columns are "
                          f"{', '.join(filter(None, heads)) or 'none'}",
                          accepted="; ".join(f"{what} as {', '.join(names[what])}" for what in missing),
                          remedy="name the column so")


def _stripped(what: str, cell: str) -> str:
    return cell if what == "text" else cell.strip()


def _known(heads: Sequence[str], accepted: Mapping[str, tuple[str, ...]]) -> dict[str, int]:
    """The place of each column that is used, by what it holds."""
    names = [re.sub(r"[\s\-]+", "_", head.strip().strip("\ufeff").casefold()) for head in heads]
    found = {what: next((names.index(name) for name in these if name in names), None)
             for what, these in accepted.items()}
    if found.get("role") is not None:
        found["type"] = None
    return {what: place for what, place in found.items() if place is not None}


def numbers(row: Mapping[str, str]) -> tuple[dict[str, int | float], str]:
    """How a row asks to be drawn (seed, guidance, height, width; what it leaves open is missing), and why it cannot."""
    out: dict[str, int | float] = {}
    low, high = 8, 4096
    wanted: tuple[tuple[str, Callable[[str], float | int | None], str], ...] = (
        ("seed", lambda cell: _whole(cell, 0, 2**64 - 1), "a seed that is no whole number from 0 on"),
        ("guidance", lambda cell: _between(cell, 1.0, 50.0), "a guidance that is no number from 1 to 50"),
        ("height", lambda cell: _whole(cell, low, high), f"a height that is no whole number from {low} to {high}"),
        ("width", lambda cell: _whole(cell, low, high), f"a width that is no whole number from {low} to {high}"))
    size = row.get("size", "")
    if size.casefold() not in _NOTHING:
        sides = [_whole(side, low, high) for side in re.split(r"\s*[x×*,]\s*", size.strip("()[] ").casefold())]
        if None in sides or len(sides) > 2:
            return {}, "a size that is neither a side nor width x height"
        out |= {"width": sides[0] or 0, "height": sides[-1] or 0}
    for what, read, why in wanted:
        cell = row.get(what, "")
        if cell.casefold() in _NOTHING:
            continue
        value = read(cell)
        if value is None:
            return {}, why
        out[what] = value
    return out, ""


def _whole(cell: str, low: int, high: int) -> int | None:
    """A whole number; "4188.0", as tables of numbers write it, is one."""
    found = re.fullmatch(r"\+?(\d+)(?:[.,]0*)?", cell.strip())
    value = int(found[1]) if found else -1
    return value if low <= value <= high else None


def _between(cell: str, low: float, high: float) -> float | None:
    """A number; a comma may stand for the point."""
    try:
        value = float(cell.strip().replace(",", "."))
    except ValueError:
        return None
    return value if low <= value <= high else None
