"""Lists of prompts as tables: CSV in the dialects of spreadsheets, with the column names that the field uses.

A column is known by its header, whatever its capitals, blanks and dashes. The first name of each kind that a table has
is used; every other column is ignored, and `PromptTable.ignored` names it. Numbers may be empty; a row whose number
cannot be read has no such thing as a usual value, so it is left out with its reason.

Source of the names: I2P (prompt, sd_seed, sd_guidance_scale, sd_image_width, sd_image_height), UnlearnDiffAtk and ESD
(case_number, prompt, evaluation_seed, evaluation_guidance, artist), UCE (class), MACE (type: erased, others),
MMA-Diffusion (adv_prompt), Ring-A-Bell ("sensitive prompt"), COCO captions (image_id, text). Differs: none is required
but the text.
"""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from expunge import untrusted
from expunge.errors import ConfigError
from expunge.records.separated import separated_rows

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
_MARKS = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"), (codecs.BOM_UTF16_LE, "utf-16"),
          (codecs.BOM_UTF16_BE, "utf-16"), (b"", "utf-8-sig"))  # UTF-32's mark begins with that of UTF-16
_NOTHING = ("", "none", "null", "na")
"""What programs write where there is nothing. "nan" is none of them: nothing can be drawn with it, which is said."""

MOST_TEXT = 10_000
"""Characters of a prompt: text encoders read a tenth of that, and cut off the rest."""
EMPTY_ROW = "a row with nothing in any cell"
"""Why such a row is left out: spreadsheets write them below a table. It has no number in its list."""
MORE_CELLS = "more cells than the header has columns (a text with the separator in it goes in quotes)"
"""Why a row is wrong that unquoted separators have cut."""


@dataclass(frozen=True)
class PromptTable:
    """A list of prompts.

    Attributes:
        file: where it came from.
        columns: the header of each column that is used, by what it holds (`NAMES`).
        ignored: the headers of the others.
        rows: the cells of each row, by what they hold; without blanks around them but for texts.
        wrong: why rows cannot be used, by their place. empty: rows with nothing in any cell, which are not in `rows`.
    """

    file: Path
    columns: Mapping[str, str]
    ignored: tuple[str, ...]
    rows: tuple[Mapping[str, str], ...]
    wrong: Mapping[int, str] = field(default_factory=dict)
    empty: int = 0


class Cells(NamedTuple):
    """A table as it stands: the headers, the cells of each row, and how many rows had nothing in any cell.

    Those are not in `rows`.
    """

    heads: list[str]
    rows: list[list[str]]
    empty: int = 0


def is_table(file: Path) -> bool:
    """Whether a file is read as a table, by its ending."""
    return file.suffix.lower() in TABLES


def read_text(file: Path) -> str:
    """The text of a user's list, without a byte order mark; UTF-8, or what its byte order mark says.

    Every end of a line is a line feed.

    Raises:
        ConfigError: it cannot be read, or has NUL characters, as wide characters without a mark would.
    """
    utf_8 = {"accepted": "text in UTF-8", "remedy": "save it again as UTF-8 (in a spreadsheet: CSV UTF-8)"}
    try:
        data = untrusted.content(file.expanduser())
        text = data.decode(next(name for mark, name in _MARKS if data.startswith(mark)))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read prompts from {file}: {error}", **utf_8) from error
    text = io.StringIO(text, newline=None).read()
    if "\0" in text:
        line = text[:text.index("\0")].count("\n") + 1
        raise ConfigError(f"cannot read prompts from {file}: line {line} has NUL characters, as UTF-16 without a byte "
                          "order mark does", **utf_8)
    return text


def unreadable(text: str) -> str:
    """Why no encoder reads a text, as an escape in a file has made it ("\\u0000"), or a list that is none of prompts.

    "" where it can be read.
    """
    if len(text) > MOST_TEXT:
        return f"a text of more than {MOST_TEXT:,} characters"
    return "a text with NUL characters or halves of characters" if re.search("[\0\ud800-\udfff]", text) else ""


def read_table(file: Path) -> PromptTable:
    """The rows of a CSV or TSV file, in their order.

    The separator is the one that the first line names ("sep=;"), the tab of a .tsv that has any, or the one that splits
    the header best. Where none splits it, the list is one column, and a row is its whole line.

    Raises:
        ConfigError: it cannot be read, is empty, has a quote that is not closed, or lacks a column of texts: the names
            that would do are in the message.
    """
    return table_of(file, read_cells(file))


def read_cells(file: Path) -> Cells:
    """The headers of a CSV or TSV file (its first row with something in it) and the cells of each row.

    Raises:
        ConfigError: it cannot be read, or has a quote that is not closed.
    """
    text = read_text(file)
    first, _, rest = text.partition("\n")
    declared = re.fullmatch(r"sep=(.)\s*", first)  # what Excel writes and reads
    text, line = (rest, 2) if declared else (text, 1)
    separator = declared[1] if declared else "\t" if file.suffix.lower() == ".tsv" and "\t" in text \
        else _separator(file, text)
    filled, empty = list[list[str]](), 0
    for row in separated_rows(file, text, separator, line):
        if any(map(str.strip, row)):
            filled.append(row)
        else:
            empty += bool(filled)
    heads, *rows = filled or [[]]
    return Cells(heads, rows, empty)


def _separator(file: Path, text: str) -> str:
    """What splits the header into the most columns that are known, then into the most; "" where nothing does."""
    found = {"": (0, 1)}
    for one in _SEPARATORS:
        try:
            heads = next((row for row in separated_rows(file, text, one) if any(map(str.strip, row))), [])
        except ConfigError:  # its quotes end before another separator
            continue
        found[one] = (len(_known(heads)), len(heads))
    best = max(found, key=lambda one: found[one])
    return best if found[best][1] > 1 else ""


def table_of(file: Path, cells: Cells, chosen: Mapping[str, str] | None = None) -> PromptTable:
    """The table of these cells. Rows with more cells than there are headers are wrong.

    Args:
        chosen: headers of columns, by what they hold; what it does not name is found by the usual names.

    Raises:
        ConfigError: it lacks a column of texts.
    """
    heads, rows = [head.strip().strip("\ufeff") for head in cells.heads], cells.rows
    columns = {**_known(heads), **chosen_columns(file, heads, chosen or {})}
    _check(file, columns, heads)
    used = {place: what for what, place in columns.items()}
    read = [{used[place]: _stripped(used[place], cell) for place, cell in enumerate(row) if place in used}
            for row in rows]
    return PromptTable(file, {what: heads[place] for what, place in columns.items()},
                       tuple(head for place, head in enumerate(heads) if head and place not in used), tuple(read),
                       too_wide(heads, rows), cells.empty)


def too_wide(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> dict[int, str]:
    """`MORE_CELLS` by the place of each row that has something behind the last column with a header."""
    width = max((place for place, head in enumerate(heads, 1) if head.strip()), default=0)
    return {place: MORE_CELLS for place, row in enumerate(rows) if any(map(str.strip, row[width:]))}


def chosen_columns(file: Path, heads: Sequence[str], chosen: Mapping[str, str]) -> dict[str, int]:
    """The place of each column by what it holds, of headers that a caller names.

    Raises:
        ConfigError: there is no such header.
    """
    missing = [head for head in chosen.values() if head not in heads]
    if missing:
        raise ConfigError(f"{file} has no column {', '.join(map(repr, missing))}: its columns are "
                          f"{', '.join(filter(None, heads)) or 'none'}", accepted=", ".join(chosen.values()))
    return {what: heads.index(head) for what, head in chosen.items()}


def table_of_objects(file: Path, rows: Sequence[Mapping[str, str]]) -> PromptTable:
    """The table of rows that each name their own cells, which need not call them alike.

    Raises:
        ConfigError: none of them has a text.
    """
    called = [{what: [*row][place] for what, place in _known([*row]).items()} for row in rows]
    columns = {what: head for its in reversed(called) for what, head in its.items()}
    heads, used = dict.fromkeys(head for row in rows for head in row), {head for its in called for head in its.values()}
    _check(file, columns, [*heads])
    filled = [any(cell.strip() for cell in row.values()) for row in rows]
    cells = [{what: _stripped(what, row[head]) for what, head in its.items()}
             for row, its, there in zip(rows, called, filled, strict=True) if there]
    return PromptTable(file, columns, tuple(head for head in heads if head not in used), tuple(cells),
                       empty=filled.count(False))


def _check(file: Path, columns: Collection[str], heads: Sequence[str]) -> None:
    if "text" not in columns:
        raise ConfigError(f"{file} has no column for text: its columns are {', '.join(filter(None, heads)) or 'none'}",
                          accepted=f"text as {', '.join(NAMES['text'])}", remedy="name the column so")


def _stripped(what: str, cell: str) -> str:
    return cell if what == "text" else cell.strip()


def _known(heads: Sequence[str]) -> dict[str, int]:
    """The place of each column that is used, by what it holds."""
    found = usual_columns(heads, NAMES)
    if "role" in found:
        found.pop("type", None)
    return found


def usual_columns(heads: Sequence[str], names: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """The place of each column that is called by one of the usual names, by what it holds."""
    called = [re.sub(r"[\s\-]+", "_", head.strip().strip("\ufeff").casefold()) for head in heads]
    found = {what: next((called.index(name) for name in these if name in called), None)
             for what, these in names.items()}
    return {what: place for what, place in found.items() if place is not None}


def numbers(row: Mapping[str, str]) -> tuple[dict[str, int | float], str]:
    """How a row asks to be drawn (seed, guidance, height, width; what it leaves open is missing), and why it cannot."""
    out: dict[str, int | float] = {}
    low, high = 8, 4096
    wanted: tuple[tuple[str, Callable[[str], float | int | None], str], ...] = (
        ("seed", lambda cell: _whole(cell, 0, 2**64 - 1), "a seed that is no whole number from 0 on (in digits alone)"),
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
    """A whole number; "4188.0", as tables of numbers write it, is one, "12,000" may be twelve or twelve thousand."""
    found = re.fullmatch(r"\+?(\d+)(?:[.,](?!000$)0*)?", cell.strip())
    value = int(found[1]) if found else -1
    return value if low <= value <= high else None


def _between(cell: str, low: float, high: float) -> float | None:
    """A number; a comma may stand for the point."""
    try:
        value = float(cell.strip().replace(",", ".")) if "_" not in cell else low - 1  # Python's own, nobody else's
    except ValueError:
        return None
    return value if low <= value <= high else None
