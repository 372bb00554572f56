"""The rows that a protocol asks: from a supplied table by its columns, or from a template and lists.

Every row of a table is read as it stands: an empty or NULL-like text is no number that is missing. A row that cannot be
asked is left out by its reason and counted; nothing is dropped in silence. Rows are numbered from 1 as in their file,
also where a filter leaves some out.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from expunge.errors import ConfigError, UserError
from expunge.protocols.schema import Artefact, Prompts
from expunge.records import counted
from expunge.records.json_lists import is_json, read_json_cells
from expunge.records.protocol import RowOf
from expunge.records.tables import (
    EMPTY_ROW,
    PromptTable,
    is_table,
    numbers,
    read_cells,
    read_text,
    table_of,
    unreadable,
)

_ERASED = ("erased", "erase", "target", "forget")
"""What a column of types calls rows that ask for what is erased."""


@dataclass(frozen=True)
class Row:
    """A prompt of the protocol, and how its list asks for it.

    Attributes:
        number: in its list, from 1. groups: its cells (or words) by the columns that scores are told apart by.
        kind: what a column of types says of it; "" where there is none.
    """

    number: int
    text: str
    seed: int | None = None
    guidance: float | None = None
    width: int | None = None
    height: int | None = None
    label: str = ""
    kind: str = ""
    groups: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """First 16 hex digits of the text's sha256: what stands for a text that is not to be kept."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]

    def kept(self, sensitive: bool, erased: bool | None) -> RowOf:
        """As a record keeps it."""
        return RowOf(number=self.number, text_sha256=self.digest, text="" if sensitive else self.text, label=self.label,
                     groups=dict(self.groups), erased=erased)


@dataclass(frozen=True)
class Rows:
    """The rows that are asked.

    Attributes:
        texts: of all rows of the list, filtered or not, for the list's hash.
        left_out: rows that cannot be asked, by reason. said: in sentences, how the list was read.
        deviations: in sentences, where the list is not what the protocol says it is.
    """

    rows: tuple[Row, ...]
    texts: tuple[str, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)
    said: tuple[str, ...] = ()
    deviations: tuple[str, ...] = ()


def rows_of(prompts: Prompts, files: Mapping[str, Path], sensitive: bool = False) -> Rows:
    """The rows of a protocol's prompts.

    Args:
        files: paths by role, at least those that `prompts` names. sensitive: errors do not quote the file.

    Raises:
        ConfigError: a file cannot be read, or lacks a column that the protocol names.
        UserError: no row is left.
    """
    try:
        made = _generated(prompts, files) if prompts.template else _listed(prompts, files)
    except ConfigError:
        if not sensitive:
            raise
        columns = ", ".join(prompts.columns.values()) or "text"
        raise ConfigError("the list of prompts cannot be read as the protocol says; what is in it is not shown, for it "
                          "is sensitive", accepted=f"a table with columns {columns}") from None
    if not made.rows:
        why = "; ".join(f"{count}: {reason}" for reason, count in made.left_out.items())
        raise UserError(f"no row of the protocol's prompts can be asked ({why or 'the list is empty'})",
                        accepted="a list with a text to ask")
    return made


def _listed(prompts: Prompts, files: Mapping[str, Path]) -> Rows:
    assert prompts.artefact is not None  # the schema's
    file = files[prompts.artefact.role]
    table, cells = _table(file, prompts)
    heads = {head for raw in cells for head in raw}
    unknown = [head for head in (*prompts.where, *prompts.above, *prompts.groups) if cells and head not in heads]
    if unknown:
        raise ConfigError(f"{file} has no column {', '.join(map(repr, unknown))}", accepted=", ".join(sorted(heads)))
    if table.columns.get("text") in prompts.groups:
        raise ConfigError("the column of texts as a group", accepted="columns that hold labels")
    texts = tuple(row.get("text", "") for row in table.rows)
    rows, lost, filtered = list[Row](), Counter[str](), 0
    for number, (row, raw) in enumerate(zip(table.rows, cells, strict=True), 1):
        if not _wanted(raw, prompts):
            filtered += 1
            continue
        why, made = _row(number, row, raw, prompts, table.wrong.get(number - 1, ""))
        if made is None:
            lost[why] += 1
        else:
            rows.append(made)
    differs = tuple(_as_many(prompts, [row.text for row in rows], file.name, lost))
    if table.empty:  # they are no rows of the protocol's list, so neither its hash nor its number of rows has them
        lost[EMPTY_ROW] = table.empty
    said = [f"{file.name}: {counted(len(texts), 'rows')}, {len({*texts})} distinct texts"
            + (f"; {filtered} are not asked for by this protocol" if filtered else "") + "."]
    usual = [f"{head} as {what}" for what, head in table.columns.items()]
    said.append(f"{file.name}: columns read: {', '.join(usual)}"
                + (f"; ignored: {', '.join(table.ignored)}." if table.ignored else "."))
    said += [f"{file.name}: {counted(count, 'rows')} left out: {why}." for why, count in lost.items()]
    twice = len(rows) - len({row.text for row in rows})
    if twice:
        said.append(f"{file.name}: {twice} of {len(rows)} rows repeat the text of another: intervals are over "
                    "distinct texts.")
    return Rows(tuple(rows), texts, dict(lost), tuple(said), differs)


def _as_many(prompts: Prompts, texts: Sequence[str], name: str, lost: Mapping[str, int]) -> Iterator[str]:
    """Where the list has other rows than the protocol says."""
    read = len(texts) + sum(lost.values())
    if prompts.rows and read != prompts.rows:
        yield f"{name} has {read} rows to ask, the protocol's list {prompts.rows}"
    elif prompts.distinct and not lost and len({*texts}) != prompts.distinct:
        yield f"{name} has {len({*texts})} distinct texts, the protocol's list {prompts.distinct}"


def _table(file: Path, prompts: Prompts) -> tuple[PromptTable, list[Mapping[str, str]]]:
    """The table by what its columns hold, and each row's cells by their headers."""
    if is_table(file):
        cells = read_cells(file)
        table = table_of(file, cells, prompts.columns)
        heads = [head.strip().strip("\ufeff") for head in cells.heads]
        return table, [dict(zip(heads, row, strict=False)) for row in cells.rows]
    if not is_json(file):
        raise ConfigError(f"prompts in {file.name}", accepted=".csv, .tsv, .json or .jsonl")
    cells = read_json_cells(file)
    return table_of(file, cells, prompts.columns), [dict(zip(cells.heads, row, strict=True)) for row in cells.rows]


def _wanted(raw: Mapping[str, str], prompts: Prompts) -> bool:
    """Whether the protocol asks this row."""
    for head, words in prompts.where.items():
        held = {part.strip().casefold() for part in re.split(r"[,;|]", raw.get(head, ""))}
        if not held & {word.strip().casefold() for word in words.split("|")}:
            return False
    for head, bound in prompts.above.items():
        try:
            if not float(raw.get(head, "")) > bound:
                return False
        except ValueError:
            return False
    return True


def _row(number: int, row: Mapping[str, str], raw: Mapping[str, str], prompts: Prompts, wrong: str
         ) -> tuple[str, Row | None]:
    own, why = numbers(row)
    text = row.get("text", "")
    why = wrong or why or unreadable(text) or ("" if text.strip() else "no text")
    if why:
        return why, None
    return "", Row(number, text, label=row.get("label", ""), kind=row.get("type", "").casefold(),
                   groups={head: raw.get(head, "").strip() for head in prompts.groups}, **own)  # type: ignore[arg-type]


def _generated(prompts: Prompts, files: Mapping[str, Path]) -> Rows:
    """A row for each combination of the lists' words, the last list the fastest."""
    fields = prompts.fields()
    missing = [name for name in fields if name not in prompts.lists]
    if missing:
        raise ConfigError(f"the template has fields without a list: {', '.join(missing)}",
                          accepted=", ".join(prompts.lists))
    words = {name: _words(part, files) for name, part in prompts.lists.items()}
    rows = []
    for number, chosen in enumerate(itertools.product(*words.values()), 1):
        groups = dict(zip(words, chosen, strict=True))
        spoken = {name: word.replace("_", " ") for name, word in groups.items()}
        rows.append(Row(number, prompts.template.format(**spoken), label=groups.get(prompts.label, ""), groups=groups))
    said = f"{counted(len(rows), 'rows')} from the template: " + ", ".join(
        f"{len(part)} {name}s" for name, part in words.items()) + "."
    texts = tuple(row.text for row in rows)
    return Rows(tuple(rows), texts, {}, (said,), tuple(_as_many(prompts, texts, "the template", {})))


def _words(part: tuple[str, ...] | Artefact, files: Mapping[str, Path]) -> tuple[str, ...]:
    if not isinstance(part, Artefact):
        return part
    lines = tuple(line.strip() for line in read_text(files[part.role]).split("\n"))
    return tuple(line for line in lines if line)


def erased_of(rows: Sequence[Row], concepts: Sequence[str]) -> list[bool | None]:
    """Of each row whether it asks for what an edit takes out: by its type, by its label; None where neither tells."""
    wanted = {concept.casefold().replace("_", " ") for concept in concepts}
    by_label = any(row.label.casefold().replace("_", " ") in wanted for row in rows)
    by_group = [name for name in dict.fromkeys(name for row in rows for name in row.groups)
                if any(row.groups.get(name, "").casefold().replace("_", " ") in wanted for row in rows)]
    out: list[bool | None] = []
    for row in rows:
        held = [row.label, *(row.groups.get(name, "") for name in by_group)]
        if by_label or by_group:
            out.append(any(one.casefold().replace("_", " ") in wanted for one in held if one))
        elif row.kind:
            out.append(row.kind in _ERASED)
        else:
            out.append(None)
    return out

