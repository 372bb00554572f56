"""How long it still takes: a bar on a terminal, a plain line every ten seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TextIO

Note = Mapping[str, float] | str | None
Report = Callable[..., None]
"""Called as report(done, total) or report(done, total, note, title=...). A note is losses by name, or words; a new
title, or a `done` below the last one, starts a new piece of work."""

QUIET_SECONDS = 10.0
"""Seconds between two plain lines."""
WORTH_TELLING = 2.0
"""Seconds under which a piece of work is not worth a plain line."""


@contextmanager
def progress(title: str, stream: TextIO | None = None) -> Iterator[Report]:
    """A callback that tells how far a piece of work is and how long it still takes, on standard error.

    Args:
        title: what is being done ("erasing church").
        stream: where to write; standard error when None. A bar if it is a terminal, else plain lines.
    """
    stream = stream or sys.stderr
    if stream.isatty():
        with _bar(title) as report:
            yield report
    else:
        yield PlainLines(title, stream)


class PlainLines:
    """Progress as lines of text, for logs: one every ten seconds and one at the end of anything over two seconds."""

    _began: float
    _told: float
    _done: int
    _first: int | None

    def __init__(self, title: str, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._title, self._stream, self._clock = title, stream, clock
        self._start(0)

    def __call__(self, done: int, total: int, note: Note = None, title: str = "") -> None:
        """Tell that `done` of `total` is finished."""
        now = self._clock()
        if done < self._done or (title and title != self._title):
            self._title = title or self._title
            self._start(done)
        if self._first is None:
            self._first = done - 1 if done else 0
        self._done = done
        gone = now - self._began
        if done >= total:
            if gone > WORTH_TELLING:
                self._print(f"{done}/{total} done in {span(gone)}{_words(note)}")
            self._start(0)
        elif now - self._told >= QUIET_SECONDS:
            self._told = now
            rate = (done - self._first) / gone if gone > 0 else 0.0
            left = f", {span((total - done) / rate)} left" if rate > 0 else ""
            self._print(f"{done}/{total}, {span(gone)} gone{left}{_words(note)}")

    def _print(self, text: str) -> None:
        print(f"{self._title}: {text}", file=self._stream, flush=True)

    def _start(self, done: int) -> None:
        self._began = self._told = self._clock()
        self._done, self._first = done, None


def span(seconds: float) -> str:
    """Seconds as a person reads them: "8 s", "2 min 05 s", "1 h 12 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


@contextmanager
def _bar(title: str) -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=30), MofNCompleteColumn(), TimeElapsedColumn(),
               TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[note]}", style="dim"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(title, total=None, note="")
        last, shown = 0, title

        def report(done: int, total: int, note: Note = None, title: str = "") -> None:
            nonlocal last, shown
            if done < last or (title and title != shown):
                bars.reset(task, total=total)
            last, shown = done, title or shown
            bars.update(task, description=shown, completed=done, total=total, note=_words(note).lstrip("; "))

        yield report


def _words(note: Note) -> str:
    if not note:
        return ""
    if isinstance(note, str):
        return f"; {note}"
    return "; " + ", ".join(f"{name} {value:.4g}" for name, value in note.items())
