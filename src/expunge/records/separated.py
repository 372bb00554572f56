"""Separated text (CSV, TSV) as rows of cells, read strictly: a quote that does not end where a cell does is refused.

Source: RFC 4180. Differs: any separator, blanks before a cell and behind a closing quote, and rows of any length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from expunge.errors import ConfigError

_QUOTE = re.compile(' *"')


def separated_rows(file: Path, text: str, separator: str, first_line: int = 1) -> Iterator[list[str]]:
    """The cells of each row in their order. A line with nothing on it is no row; one of bare separators is.

    Args:
        file: what an error calls the text.
        text: with a line feed at the end of each line.
        separator: one character; "" takes each line for one cell.
        first_line: number of the text's first line in the file.

    Raises:
        ConfigError: a quote is not closed, or text follows one that is; the row and its line are named.
    """
    end = re.escape(separator) if separator else r"\Z"
    quoted = re.compile(rf' *"([^"]*(?:""[^"]*)*)" *(?={end}|\n|\Z)')
    plain = re.compile(r" *([^\n" + re.escape(separator) + "]*)")
    place, line, number, row = 0, first_line, 0, list[str]()
    while place <= len(text):
        found = quoted.match(text, place)
        if not found and _QUOTE.match(text, place):
            raise _open_quote(file, number, line)
        found = found or plain.match(text, place)
        assert found is not None  # a cell may be empty
        row.append(found[1].replace('""', '"') if found.re is quoted else found[1])
        place = found.end() + 1
        if text[found.end():place] in ("\n", ""):
            if len(row) > 1 or row[0].strip() or found.re is quoted:
                yield row
                number += any(map(str.strip, row))
            line, row = line + 1 + sum(cell.count("\n") for cell in row), []


def _open_quote(file: Path, number: int, line: int) -> ConfigError:
    return ConfigError(f"{file}: {f'row {number}' if number else 'the header'} (line {line}) has a quote that does not "
                       "end where the cell does", accepted='a cell in quotes, with "" for each quote in it',
                       remedy="close the quote, or put the whole text in quotes")
