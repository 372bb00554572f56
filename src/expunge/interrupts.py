"""Runs that somebody ends: Ctrl-C (SIGINT) and SIGTERM alike, each with its own exit code.

Either is a KeyboardInterrupt where the work is, so that whoever cleans up after one does so after the other. Compiled
code in which it falls may swallow it, or make another error of it. So a command notes that it was asked to stop
(`asked`), and stops where its progress is told next (`check`) or, at the latest, where it ends.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_asked: list[KeyboardInterrupt] = []


class Terminated(KeyboardInterrupt):
    """SIGTERM, where `take_signals` was called."""


def take_signals() -> None:
    """From now on both signals raise, and are noted; not those that somebody else handles, or that are ignored."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _stop)


def leave_signals() -> None:
    """From now on either ends the process as the system does it: nothing is left to be kept or cleared away."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is _stop:
            signal.signal(number, signal.SIG_DFL)


def asked() -> KeyboardInterrupt | None:
    """What has asked this process to stop, since `take_signals`."""
    return _asked[0] if _asked else None


def check() -> None:
    """Raise what has asked this process to stop, which somebody swallowed: else this would not be reached.

    Whoever keeps an error as a finding (a failed cell, attempt or answer) asks here first: compiled code may have made
    it of an interrupt.
    """
    if _asked:
        raise _asked[0]


def obeyed() -> None:
    """Forget what has asked this process to stop: that is how it was meant to end."""
    _asked.clear()


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
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    ours = {number: handler for number, handler in handlers.items() if wait
            and threading.current_thread() is threading.main_thread()
            and handler in (_stop, signal.default_int_handler)}

    def put_back() -> None:
        for number, handler in ours.items():
            signal.signal(number, handler)

    def note(number: int, frame: FrameType | None) -> None:
        noted.append(_of(number))
        put_back()

    for number in ours:
        signal.signal(number, note)
    try:
        yield lambda: noted[0] if noted else None
    finally:
        put_back()
    if noted:
        raise noted[0]


def _stop(number: int, frame: FrameType | None) -> None:
    _asked.append(_of(number))
    raise _asked[-1]


def _of(number: int) -> KeyboardInterrupt:
    return Terminated() if number == signal.SIGTERM else KeyboardInterrupt()
