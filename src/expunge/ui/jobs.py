"""One piece of work at a time, in a thread of its own: progress, what it tells as it goes, stop.

A stop is a KeyboardInterrupt at the next place where the work looks (`Job.check`): between the steps of a training,
between two calls of a model's network while it draws or is attacked. So every `with` on the way puts back what it
changed, as at Ctrl-C.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from expunge.errors import ExpungeError, UserError

if TYPE_CHECKING:
    from expunge.models.model import Model

log = logging.getLogger(__name__)

State = Literal["running", "done", "stopped", "failed"]
MOST = 2000
"""Things that a job tells at most; what comes after goes unsaid. Its counts and its result are whole all the same."""


class Busy(UserError):
    """Another job is running."""


@dataclass
class Job:
    """A piece of work, as others see it.

    Attributes:
        number: counts jobs. action: what kind of work ("compare"). title: in words. asked: with which settings.
        done, total, note: how far it is with what it does now.
        told: what it has told so far, in order, at most `MOST` things: {"kind": ..., ...}.
        counts: how many so far, by what the work calls them, whether they were told or not.
        result, error: what came out; an error as {"got", "accepted", "remedy"}.
    """

    number: int
    action: str
    title: str
    asked: Mapping[str, Any] = field(default_factory=dict)
    state: State = "running"
    done: int = 0
    total: int = 0
    note: str = ""
    told: list[dict[str, Any]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    result: dict[str, Any] | None = None
    error: dict[str, str] | None = None
    began: float = field(default_factory=time.monotonic)
    ended: float | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _piece: tuple[str, int, float, int] = ("", 0, 0.0, 0)

    def check(self) -> None:
        """Raise KeyboardInterrupt if somebody wants the job to stop."""
        if self._stop.is_set():
            raise KeyboardInterrupt("stopped")

    def tell(self, done: int, total: int, note: str = "") -> None:
        """Progress; it may stop the work."""
        if (note, total) != self._piece[:2] or done < self._piece[3]:
            self._piece = (note, total, time.monotonic(), done)
        self.done, self.total, self.note = done, total, note
        self.check()

    def say(self, kind: str, **what: Any) -> None:
        """Tell something that is to be seen before the work is done."""
        if len(self.told) < MOST:
            self.told.append({"kind": kind, **what})

    @property
    def seconds_left(self) -> float | None:
        """How long what it does now still takes, at its speed so far; None where that is not known."""
        _, _, began, first = self._piece
        made, gone = self.done - first, time.monotonic() - began
        return None if self.state != "running" or made < 1 or gone < 1 else (self.total - self.done) * gone / made

    def seen(self, after: int = 0) -> dict[str, Any]:
        """All of it as JSON-able values; of what it told, that which comes after the first `after` things."""
        now = time.monotonic() if self.ended is None else self.ended
        return {"number": self.number, "action": self.action, "title": self.title, "asked": dict(self.asked),
                "state": self.state,
                "done": self.done, "total": self.total, "note": self.note, "told": self.told[max(0, after):],
                "count": len(self.told), "counts": dict(self.counts), "result": self.result, "error": self.error,
                "stopping": self._stop.is_set() and self.state == "running",
                "seconds": round(now - self.began, 1), "left": self.seconds_left}


Work = Callable[[Job], Mapping[str, Any]]


class Jobs:
    """At most one running job; of each action the last one is kept."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._count = 0
        self.last: dict[str, Job] = {}
        self.current: Job | None = None

    def start(self, action: str, title: str, work: Work, asked: Mapping[str, Any] | None = None) -> Job:
        """Begin.

        Raises:
            Busy: a job is running.
        """
        with self._lock:
            if self.running is not None:
                raise Busy(f"{self.running.title} is still running", accepted="one job at a time",
                           remedy="wait for it, or stop it")
            self._count += 1
            job = self.current = self.last[action] = Job(self._count, action, title, asked or {})
            self._thread = threading.Thread(target=self._run, args=(job, work), name=f"job {job.number}", daemon=True)
            self._thread.start()
        return job

    @property
    def running(self) -> Job | None:
        """The job that runs, if one does."""
        return self.current if self.current is not None and self.current.state == "running" else None

    def stop(self) -> Job | None:
        """Ask the running job to stop; returns it."""
        job = self.running
        if job is not None:
            job._stop.set()
        return job

    def wait(self, seconds: float | None = None) -> None:
        """Until the job that runs has ended, or so many seconds."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _run(self, job: Job, work: Work) -> None:
        state: State = "failed"
        try:
            job.result = dict(work(job))
            state = "done"
        except KeyboardInterrupt as stop:
            job.note, state = str(stop) or "stopped", "stopped"
        except ExpungeError as error:
            job.error = told(error)
        except Exception as error:  # whatever it is, the page must say so and go on
            log.exception("%s broke off", job.title)
            job.error = {"got": f"{type(error).__name__}: {error}", "accepted": "", "remedy": "the log has more"}
        job.ended = time.monotonic()
        job.state = state


def told(error: ExpungeError) -> dict[str, str]:
    """An error for people."""
    return {"got": error.got, "accepted": error.accepted, "remedy": error.remedy}


@contextmanager
def stoppable(model: Model, job: Job) -> Iterator[None]:
    """Inside, every call of the model's denoising network is a place where the job may stop."""
    def look(*_: Any) -> None:  # a plain function: a copy of the network may hold it, too
        job.check()

    hook = model.network.register_forward_pre_hook(look)
    try:
        yield
    finally:
        hook.remove()
