"""The user's list of prompts: a YAML file by role, a table as the field keeps them, JSON, or one prompt a line.

A list that says no roles gets them: a prompt whose class (label) names a concept, or that names one itself, asks for it
by its name (direct); one whose class is another thing is to be kept (far); any other is taken to ask for the concept
without its name (implicit). What was taken for what is said (`Listed.told`), and `role` decides instead where the user
sets it. Rows that cannot be asked are left out one by one, with their reason; a list of no other rows is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from expunge.config import read_settings_file
from expunge.errors import ConfigError, UserError
from expunge.metrics.open_joint import OBJECT
from expunge.records import FORGET_ROLES, Prompt, Role, counted
from expunge.records.json_lists import is_json, read_json_list
from expunge.records.tables import EMPTY_ROW, PromptTable, is_table, numbers, read_table, read_text, unreadable
from expunge.untrusted import shortened

TYPES: Mapping[str, str] = {**{role: role for role in get_args(Role)}, "erased": "", "erase": "", "target": "",
                            "others": "far", "other": "far", "retained": "far", "retain": "far", "kept": "far",
                            "keep": "far", "preserved": "far", "preserve": "far"}
"""What a column called type may hold, and the role that it means; "" is any that asks for the concept."""
Names = Callable[[str, str], bool]
"""Whether a text names a concept."""
_SETTINGS = (".yaml", ".yml", ".toml")
_ACCEPTED = f"roles {', '.join(get_args(Role))}, each prompt a text or text and label"


@dataclass(frozen=True)
class Listed:
    """The prompts of a file in their order, and in sentences how it was read.

    Attributes:
        guessed: of each prompt, whether its list leaves its role open.
        plain: whether the list says neither role nor label of any prompt.
        columns: what is read as what, and what is ignored. roles: what was taken for what. drawn: how many prompts say
            themselves how they are drawn. lost: which rows are left out, and why.
    """

    prompts: tuple[Prompt, ...]
    guessed: tuple[bool, ...] = ()
    plain: bool = True
    columns: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    drawn: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()

    @property
    def notices(self) -> tuple[str, ...]:
        """All sentences."""
        return (*self.columns, *self.roles, *self.drawn, *self.lost)


@dataclass(frozen=True)
class _Row:
    number: int
    role: str | None
    text: str
    label: str
    more: Mapping[str, Any]
    wrong: str = ""


def listed(file: Path, concepts: Sequence[str], names: Names, role: str = "") -> Listed:
    """Read a list of prompts.

    Args:
        concepts: what goes; a prompt of a file with roles that asks for one of several names it by its label.
        names: whether a text names a concept.
        role: of prompts in a list without roles; "" means by what they name (see the top of the file).

    Raises:
        ConfigError: it cannot be read, has no column of texts, unknown roles or keys, or none of several concepts as
            label; all mistakes are shown. Or none of its rows can be used: the reasons are shown. UserError: `role` is
            none.
    """
    return of_list(file, read_list(file), concepts, names, role)


def read_list(file: Path) -> tuple[str, ...] | PromptTable | dict[str, Any]:
    """A file as it stands: its texts, its table, or its mapping, by its ending.

    Raises:
        ConfigError: it cannot be read or has another ending.
    """
    if file.suffix.lower() in _SETTINGS:
        return read_settings_file(file, read_text(file))
    return read_json_list(file) if is_json(file) else read_table(file) if is_table(file) else _lines(file)


def of_list(file: Path, found: Sequence[str] | PromptTable | Mapping[str, Any], concepts: Sequence[str], names: Names,
            role: str = "") -> Listed:
    """The prompts of what `read_list` found; see `listed`."""
    if role and role not in get_args(Role):
        raise UserError(f"default role {role!r}", accepted=", ".join(get_args(Role)))
    if isinstance(found, PromptTable):
        table = _typed(found)
        return _checked(file, list(_of_table(table)), concepts, names, role, table)
    if isinstance(found, Mapping):
        return _checked(file, list(_of_mapping(found)), concepts, names, role, None)
    rows = [_Row(number, None, line, "", {}, f"prompt {number}: {why}" if (why := unreadable(line)) else "")
            for number, line in enumerate(found, 1) if line.strip()]
    blank = len(found) - len(rows) if is_json(file) else 0  # of a text file a blank line is no row
    return _checked(file, rows, concepts, names, role, None, blank)


def _lines(file: Path) -> tuple[str, ...]:
    if file.suffix.lower() != ".txt":
        raise ConfigError(f"prompts in {file.name}", accepted=".yaml, .yml, .toml, .json, .jsonl, .csv, .tsv, or .txt "
                                                              "of one a line")
    return tuple(read_text(file).split("\n"))  # splitlines would cut at characters that a text may hold


def _of_mapping(values: Mapping[str, Any]) -> Iterator[_Row]:
    entries = [(str(role), entry) for role, its in values.items()
               for entry in (its if isinstance(its, list) else [its])]
    for number, (role, entry) in enumerate(entries, 1):
        fields = {"text": entry} if isinstance(entry, str) else entry
        if role in get_args(Role) and (not isinstance(fields, dict) or set(fields) - _KEYS):
            yield _Row(number, role, "", "", {}, f"prompt {number}: got {shortened(repr(entry))}")
            continue
        fields = fields if isinstance(fields, dict) else {}
        text, label = str(fields.get("text", "")), str(fields.get("label", ""))
        own, why = numbers({key: str(fields[key]) for key in _KEYS & fields.keys()})
        wrong = f"prompt {number}: {why}, got {shortened(repr(entry))}" if why else ""
        if role in get_args(Role) and ((odd := unreadable(text)) or (not text.strip() and role != "empty")):
            wrong = f"prompt {number}: {f'{odd}, ' if odd else ''}got {shortened(repr(entry))}"
        yield _Row(number, role, text, label, own, wrong)


_KEYS = {"text", "label", "seed", "guidance", "height", "width"}


def _typed(table: PromptTable) -> PromptTable:
    """The table without its column of types where none of them is known: then it speaks of something else."""
    head, kinds = table.columns.get("type"), {row.get("type", "").casefold() for row in table.rows}
    if head is None or kinds & TYPES.keys():
        return table
    return replace(table, columns={what: name for what, name in table.columns.items() if what != "type"},
                   ignored=(*table.ignored, head))


def _of_table(table: PromptTable) -> Iterator[_Row]:
    for number, row in enumerate(table.rows, 1):
        role = row.get("role") if "role" in table.columns else None
        kind = row.get("type", "") if "type" in table.columns else ""
        if role is None and kind:
            role = TYPES.get(kind.casefold()) or None
        own, why = numbers(row)
        text = row.get("text", "")
        why = why or unreadable(text)
        if kind and kind.casefold() not in TYPES:
            why = f"the type {kind!r}, which is none of {', '.join(TYPES)}"
        if not text.strip() and role != "empty":
            why = "no text"
        why = table.wrong.get(number - 1, why)
        case = {"case": row["case"]} if row.get("case") else {}
        yield _Row(number, role, text, row.get("label", ""), {**own, **case}, why)


def _checked(file: Path, rows: Sequence[_Row], concepts: Sequence[str], names: Names, default: str,
             table: PromptTable | None, empty: int = 0) -> Listed:
    mistakes: list[str] = []
    lost, taken = Counter[str](), Counter[str]()
    first: dict[str, int] = {}
    prompts, guessed = list[Prompt](), list[bool]()
    for row in rows:
        wrong = row.wrong
        if row.role is not None and row.role not in get_args(Role):
            mistakes.append(f"prompt {row.number}: unknown role {row.role!r}")
            continue
        if wrong and table is None:
            mistakes.append(wrong)
            continue
        role, label = (row.role, row.label) if row.role is not None else _guessed(row, concepts, names, default)
        if not role:
            wrong = wrong or f"names none of {', '.join(concepts)}"
        if role in FORGET_ROLES and len(concepts) == 1:
            if row.role is not None and _of_another(row, concepts[0], names):
                wrong = wrong or f"asks for {row.label!r}, not for {concepts[0]}"
            label = concepts[0]
        elif role in FORGET_ROLES and label not in concepts:
            mistakes.append(f"prompt {row.number}: asks for {label!r}, which is none of {', '.join(concepts)}")
            continue
        if wrong:
            lost[wrong] += 1
            first.setdefault(wrong, row.number)
            continue
        guessed.append(row.role is None)
        if row.role is None:
            taken[role] += 1
        prompts.append(Prompt(text=row.text, role=role,  # type: ignore[arg-type]  # one of them
                              labels={OBJECT: label} if label else {}, **row.more))
    if mistakes:
        raise ConfigError(f"{file}: " + "; ".join(mistakes), accepted=_ACCEPTED)
    left = tuple(f"{file.name}: {counted(count, 'rows')} left out: {why} (row {first[why]}{' first' * (count > 1)})."
                 for why, count in lost.items())
    if empty := empty + (table.empty if table is not None else 0):
        left += (f"{file.name}: {counted(empty, 'rows')} left out: {EMPTY_ROW}.",)
    made = Listed(tuple(prompts), tuple(guessed), all(row.role is None and not row.label for row in rows),
                  tuple(_columns(file, table)), tuple(_roles(file, taken, default)), tuple(_own(file, prompts)), left)
    if not prompts:
        raise ConfigError(f"no prompt in {file} can be used", accepted="a list with a text to ask",
                          remedy=" ".join(made.notices))
    return made


def _of_another(row: _Row, concept: str, names: Names) -> bool:
    """Whether a prompt of the forget side says by its label that it asks for another of a list's concepts."""
    return bool(concept and row.label) and not names(row.label, concept) and not names(row.text, concept)


def _guessed(row: _Row, concepts: Sequence[str], names: Names, default: str) -> tuple[str, str]:
    """Role and label of a prompt whose list says no role; no role where it could be any of several concepts'."""
    by_label = next((concept for concept in concepts if row.label and names(row.label, concept)), "")
    mine = by_label or next((concept for concept in concepts if names(row.text, concept)), "")
    if default:
        return default, mine if default in FORGET_ROLES else row.label
    if mine:
        return ("direct" if names(row.text, mine) else "implicit"), mine
    if row.label:
        return "far", row.label
    return ("implicit", concepts[0]) if len(concepts) == 1 else ("", "")


def _columns(file: Path, table: PromptTable | None) -> list[str]:
    """Which columns are used as what, where that is not plain, and which are ignored."""
    if table is None:
        return []
    used = [f"{head} as {what}" for what, head in table.columns.items() if head.casefold() != what]
    out = [f"{file.name}: columns read: {', '.join(used)}."] if used else []
    return out + ([f"{file.name}: columns ignored: {', '.join(table.ignored)}."] if table.ignored else [])


def _roles(file: Path, taken: Mapping[str, int], default: str) -> list[str]:
    if not taken:
        return []
    said = ", ".join(f"{count} as {role}" for role, count in taken.items())
    why = "as --default-role says" if default else (
        "direct: they name the concept; far: their class is another thing; implicit: neither, so they are taken to ask "
        "for it without its name; --default-role says otherwise")
    return [f"{file.name} says no roles: {said} ({why})."]


def _own(file: Path, prompts: Sequence[Prompt]) -> list[str]:
    """How many prompts say themselves how they are drawn."""
    ways = (("seed", "a seed"), ("guidance", "a guidance"), ("width", "a size"))
    settings = [f"{count} with {words}" for what, words in ways
                if (count := sum(getattr(prompt, what) is not None for prompt in prompts))]
    return [f"{file.name}: drawn as it says: {', '.join(settings)}, of {counted(len(prompts), 'prompts')}."
            ] if settings else []
