"""Commands in processes that are forked from one which has imported everything: a run of seconds instead of ten.

A fork is only what a fresh process would be while the parent is a single thread that has computed nothing: it imports,
and forks. `run` checks that before each fork. What a fork shares with its siblings and a fresh process does not is the
seed of Python's hashes; the harness's references are of an earlier process, wherever it goes on.
"""

from __future__ import annotations

import atexit
import importlib
import mmap
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_THREADED = ("onnxruntime", "diffusers.pipelines.onnx_utils")
"""What starts threads when it is imported, and what imports that: each run does so by itself."""
LONGEST = 600.0
"""Seconds after which a run is taken for one that hangs."""
_WATCHED = {"open", "os.chmod", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate", "os.utime"}
"""What touches the disk, as Python's audit calls it."""


@dataclass(frozen=True)
class Cut:
    """How a run is ended.

    Attributes:
        signal: SIGKILL, SIGTERM or SIGINT.
        touch: right before the run touches its folder for that time, the first being 1.
        later: so many seconds of processor time after it touched it.
    """

    signal: str
    touch: int
    later: float = 0.0


@dataclass(frozen=True)
class Ended:
    """What came of a run.

    Attributes:
        code: as a shell tells it (137 after SIGKILL).
        said: standard output and standard error.
        touches: how often it touched its folder; seconds: of processor time.
        whole: whether the command had come to its good end, whatever ended the process then.
    """

    code: int
    said: str
    touches: int
    seconds: float
    whole: bool


def run(words: Sequence[str], folder: Path, environment: Mapping[str, str], cut: Cut | None = None) -> Ended:
    """`expunge WORDS` in `folder`, in a process of its own.

    Raises:
        RuntimeError: this process is no longer one that can be forked from; or the run hangs.
    """
    if (threads := len(os.listdir("/proc/self/task"))) > 1:
        raise RuntimeError(f"{threads} threads here: a fork would not be what a fresh process is")
    folder.mkdir(parents=True, exist_ok=True)
    log = folder.with_name(f"{folder.name}.log")
    log.write_bytes(b"")
    sys.stdout.flush()
    with mmap.mmap(-1, 9) as touches:  # seen by both
        child = os.fork()
        if not child:
            _become(words, folder, environment, log, touches, cut)
        status, usage = _wait(child, touches, cut)
        code = os.waitstatus_to_exitcode(status)
        return Ended(128 - code if code < 0 else code, log.read_text(errors="replace"), _count(touches),
                     usage.ru_utime + usage.ru_stime, bool(touches[8]))


def imported(names: Sequence[str]) -> None:
    """Import what runs import, so that forks need not."""
    for name in names:
        if not name.startswith(("__", *_THREADED)):
            try:
                importlib.import_module(name)
            except Exception:
                continue  # a name that only its own package can import


def _wait(child: int, touches: mmap.mmap, cut: Cut | None) -> tuple[int, Any]:
    began, due, since = time.monotonic(), cut is not None and cut.later > 0, None
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            return status, usage
        if due and cut is not None and _count(touches) >= cut.touch:
            now = _processor_time(child)
            since = now if since is None else since
            if now - since >= cut.later:
                os.kill(child, getattr(signal, cut.signal))
                due = False
        if time.monotonic() - began > LONGEST:
            os.kill(child, signal.SIGKILL)
            raise RuntimeError("a run hangs")
        time.sleep(0.004)


def _count(touches: mmap.mmap) -> int:
    return int.from_bytes(touches[:8], "little")


def _processor_time(process: int) -> float:
    """Seconds of a process that has not been waited for."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _become(words: Sequence[str], folder: Path, environment: Mapping[str, str], log: Path, touches: mmap.mmap,
            cut: Cut | None) -> None:
    """Be a fresh `expunge WORDS`; never returns."""
    code = 1
    try:
        os.setsid()
        os.chdir(folder)
        os.environ.update(environment)
        output = os.open(log, os.O_WRONLY | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        watching = _watch(folder, touches, cut)
        from expunge.cli import main

        try:
            main(list(words))
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        except BaseException:
            traceback.print_exc()
        touches[8] = int(code == 0)  # the command is done: a signal ends what is left of the process without a word
        watching.clear()
        if "EXPUNGE_FAULTS_MODULES" in os.environ:
            Path(os.environ["EXPUNGE_FAULTS_MODULES"]).write_text("\n".join(sys.modules))
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _watch(folder: Path, touches: mmap.mmap, cut: Cut | None) -> list[str]:
    """Count how often this process touches the folder, and make the cut, if it falls right before a touch.

    Returns:
        The folder that is watched: it is watched as long as it is in this list.
    """
    watching, ends = [f"{folder}{os.sep}"], cut.touch if cut is not None and not cut.later else 0

    def hook(event: str, given: tuple[Any, ...]) -> None:
        if event not in _WATCHED or not given or not isinstance(given[0], str | os.PathLike):
            return
        if not os.path.abspath(os.fspath(given[0])).startswith(tuple(watching)):
            return
        count = _count(touches) + 1
        touches[:8] = count.to_bytes(8, "little")
        if count == ends and cut is not None:
            os.kill(os.getpid(), getattr(signal, cut.signal))

    sys.addaudithook(hook)
    return watching
