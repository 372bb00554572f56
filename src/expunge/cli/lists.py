"""One rule for everything of which there may be several: repeat it; a comma never separates.

An option that takes several values is given once for each, an argument as words of its own. So a comma belongs to the
value it stands in, and a value that was plainly meant as several is refused with the command that says so: a name with
any comma in it, a prompt or a label with one that no blank follows, a number with one at all. A name that has a
comma can still be asked for: in a `--config` file, or where a patch or a folder is called so.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from shlex import quote
from typing import Any

import click

from expunge.errors import UserError


class Name(click.ParamType):  # type: ignore[type-arg]  # generic in newer releases alone
    """The name of a concept, a method, an attack, a layer, or an existing file or folder, or ROLE=PATH of one."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The value as it is. UserError: it has a comma in it, and is no file or folder."""
        text = str(value)
        if "," in text and not any(Path(path).expanduser().exists() for path in (text, text.partition("=")[2]) if path):
            raise several(text, param, ctx)
        return text


class Sentence(click.ParamType):  # type: ignore[type-arg]  # generic in newer releases alone
    """A prompt, a label of a bench, or something to keep in words."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The value as it is. UserError: it has a comma in it that no blank follows."""
        text = str(value)
        if re.search(r",(?=\S)", text):
            raise several(text, param, ctx)
        return text


class Number(click.IntRange):
    """A whole number in a range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number. UserError: there are several, with commas between them."""
        if isinstance(value, str) and "," in value:
            raise several(value, param, ctx)
        return super().convert(value, param, ctx)


LISTED = (Name, Sentence, Number)
"""The types of all options and arguments that take several values."""


def one_concept(value: str, known: Collection[str] = ()) -> None:
    """Raise UserError for what is plainly several concepts: one at a time is sought.

    Args:
        known: concepts that are called so, commas and all.
    """
    if "," in value and value not in known:
        parts = _parts(value)
        raise UserError(f"the concept {value!r}, with a comma in it", accepted="one concept at a time",
                        remedy=f"--concept {quote(parts[0])}, and the same command again for "
                               f"{' and '.join(map(quote, parts[1:])) or 'each other one'}")


def several(value: str, param: click.Parameter | None, ctx: click.Context | None) -> UserError:
    """What to say of a value that is several, with the command that was meant."""
    parts = _parts(value)
    if isinstance(param, click.Option):
        flag = max(param.opts, key=len)
        meant = " ".join(f"{flag} {quote(part)}" for part in parts)
        return UserError(f"{flag} {value!r}, with a comma in it", accepted=f"one value for each {flag}",
                         remedy=f"write {meant}")
    command = " ".join(["expunge", *_called(ctx)])
    config = "; a name that has a comma goes into a --config file" if ctx is not None and any(
        one.name == "config" for one in ctx.command.params) else ""
    return UserError(f"{value!r}, with a comma in it", accepted="each as an argument of its own",
                     remedy=f"write {command} {' '.join(map(quote, parts))}{config}")


def _called(ctx: click.Context | None) -> list[str]:
    """The names of a command and of the groups around it, without the program's own."""
    return [] if ctx is None or ctx.parent is None else [*_called(ctx.parent), str(ctx.info_name)]


def _parts(value: str) -> list[str]:
    return [part.strip() for part in value.split(",") if part.strip()] or [value]
