"""How long it still takes: a bar on a terminal, a plain line every ten seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TextIO

from expunge import runtime
from expunge.cli.terminal import visible, visible_console
from expunge.interrupts import check

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
    if not runtime.first():  # of several processes one tells how far all of them are
        yield lambda *told, **named: None
    elif stream.isatty():
        with _bar(title) as report:
            yield report
    else:
        yield PlainLines(title, stream)


_AT_ONCE = 0.01
"""Reports that lie closer than this share of the time gone are of one moment."""


class Pace:
    """How long a piece of work has taken and still takes, told what is done of how much.

    A piece begins anew with another title, with less done than before, or with another total: what came before was of
    another kind, and says nothing about the speed. What was done when a piece begins was there already. Of a long piece
    its recent half counts, for its beginning may have been quicker (things that were kept) or slower (a first call).
    What is reported at one moment was worked on together (a batch): only what was reported before counts, since the
    rest of a batch is still to be told.
    """

    def __init__(self, title: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.title, self._clock = title, clock
        self._total: int | None = None
        self._marks: list[tuple[float, int]] = []
        self.began = clock()

    def tell(self, done: int, total: int, title: str = "") -> bool:
        """Take note; whether a new piece begins."""
        now, title = self._clock(), title or self.title
        last = self._marks[-1][1] if self._marks else None
        ended = last is not None and self._total is not None and last >= self._total
        new = title != self.title or total != self._total or last is None or done < last or ended
        if new:  # its first item was worked on since the last report
            began = self.began if last is None else self._marks[-1][0] if done else now
            self.title, self._total, self.began, self._marks = title, total, began, [(began, max(0, done - 1))]
        if len(self._marks) > 1 and now - self._marks[-1][0] <= _AT_ONCE * (now - self.began):
            self._marks[-1] = (self._marks[-1][0], done)
        else:
            self._marks.append((now, done))
        return new

    @property
    def gone(self) -> float:
        """Seconds since the piece began."""
        return self._clock() - self.began

    @property
    def left(self) -> float | None:
        """Seconds that the rest takes at the recent speed; None where nothing is known of it."""
        if self._total is None or len(self._marks) < 3:
            return None
        now, done = self._marks[-2]
        half = [mark for mark in self._marks if mark[0] <= self.began + (now - self.began) / 2] or self._marks[:1]
        then, before = half[-1]
        self._marks = [self._marks[0], *self._marks[-512:]] if len(self._marks) > 1024 else self._marks
        if done <= before or now <= then:
            return None
        return (self._total - self._marks[-1][1]) * (now - then) / (done - before)


class PlainLines:
    """Progress as lines of text, for logs: one every ten seconds and one at the end of anything over two seconds."""

    def __init__(self, title: str, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock, self._pace = stream, clock, Pace(title, clock)
        self._told = clock()

    def __call__(self, done: int, total: int, note: Note = None, title: str = "") -> None:
        """Tell that `done` of `total` is finished."""
        check()
        pace = self._pace
        if pace.tell(done, total, title):
            self._told = pace.began
        if done >= total:
            if pace.gone > WORTH_TELLING:
                self._print(f"{done}/{total} done in {span(pace.gone)}{_words(note)}")
        elif self._clock() - self._told >= QUIET_SECONDS:
            self._told = self._clock()
            left = "" if pace.left is None else f", {span(pace.left)} left"
            self._print(f"{done}/{total}, {span(pace.gone)} gone{left}{_words(note)}")

    def _print(self, text: str) -> None:
        print(visible(f"{self._pace.title}: {text}"), file=self._stream, flush=True)


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
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=30), MofNCompleteColumn(),
               TimeElapsedColumn(), TextColumn("{task.fields[left]}", markup=False),
               TextColumn("{task.fields[note]}", style="dim", markup=False))
    with Progress(*columns, console=visible_console(stderr=True), transient=True) as bars:
        task, pace = bars.add_task(title, total=None, note="", left=""), Pace(title)

        def report(done: int, total: int, note: Note = None, title: str = "") -> None:
            check()
            if pace.tell(done, total, title):
                bars.reset(task, total=total)
            left = "" if pace.left is None else f"{span(pace.left)} left"
            bars.update(task, description=pace.title, completed=done, total=total, left=left,
                        note=_words(note).lstrip("; "))

        yield report


def _words(note: Note) -> str:
    if not note:
        return ""
    if isinstance(note, str):
        return f"; {note}"
    return "; " + ", ".join(f"{name} {value:.4g}" for name, value in note.items())
