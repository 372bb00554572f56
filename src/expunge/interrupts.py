"""Runs that somebody ends: Ctrl-C (SIGINT) and SIGTERM alike, each with its own exit code.

Either is a KeyboardInterrupt where the work is, so that whoever cleans up after one does so after the other.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Terminated(KeyboardInterrupt):
    """SIGTERM, where `terminate_as_interrupt` was called."""


def terminate_as_interrupt() -> None:
    """From now on SIGTERM raises `Terminated`; not where somebody handles or ignores the signal."""
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _terminated)


def end_at_once() -> None:
    """From now on either signal ends the process as the system does it: nothing is left to be kept or cleared away."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def exit_code(stop: BaseException | None) -> int:
    """As a shell tells it: 128 and the signal's number."""
    return 128 + (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT)


@contextmanager
def noted_between_steps(wait: bool = True) -> Iterator[Callable[[], KeyboardInterrupt | None]]:
    """Inside, a signal is only noted, so that no step is torn and the last whole one can be kept; a second one is not.

    Yields what was noted, if anything, to be raised between steps; what came behind the last step is raised at the end.
    Nothing waits where somebody else handles the signal, or outside the main thread.
    """
    noted: list[KeyboardInterrupt] = []
    meant: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: _terminated}
    ours = {number: handler for number, handler in meant.items() if wait
            and threading.current_thread() is threading.main_thread() and signal.getsignal(number) is handler}

    def put_back() -> None:
        for number, handler in ours.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        noted.append(Terminated() if number == signal.SIGTERM else KeyboardInterrupt())
        put_back()

    for number in ours:
        signal.signal(number, note)
    try:
        yield lambda: noted[0] if noted else None
    finally:
        put_back()
    if noted:
        raise noted[0]


def _terminated(number: int, frame: FrameType | None) -> None:
    raise Terminated
