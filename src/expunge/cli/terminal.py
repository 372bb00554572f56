"""What reaches the terminal: text in which nothing but our own colours acts on it.

Names, prompts and paths are other people's. A control character in one of them could move the cursor, rename the
window or hide a line; one that turns the direction of writing could show a name as another. Such characters are shown
as JSON writes them ("\\u001b"), so that what is JSON stays JSON.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from expunge.runtime import first

if TYPE_CHECKING:
    from rich.console import Console

_ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but tab and line feed, marks of the direction of writing, ends of lines and paragraphs, and halves
of characters, which no terminal can be sent."""


def visible(text: str) -> str:
    """The text with every character in it that acts on a terminal shown as its number."""
    return _ACTING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def echo(text: object = "", *, err: bool = False, nl: bool = True) -> None:
    """Print a line; of several processes of a launcher one does, and each its errors."""
    if err or first():
        click.echo(visible(str(text)), err=err, nl=nl)


def visible_console(**options: Any) -> Console:
    """A console of rich that prints what is `visible`, in colours where the terminal has them."""
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    class Visible(Console):
        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            for part in super().render(renderable, options):
                yield part if part.control else Segment(visible(part.text), part.style)

    return Visible(highlight=False, **options)


class VisibleLog(logging.Formatter):
    """Messages of a log, made visible."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))
