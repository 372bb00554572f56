"""Several processes of one launcher, told of each other as `torchrun` does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor


def launch(count: int, command: Sequence[str], env: Mapping[str, str] | None = None) -> list[subprocess.Popen[str]]:
    """Start `command` (arguments of Python) in `count` processes of one thread; their output is one stream each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = []
    for rank in range(count):
        own = {**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count),
               "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
               "OMP_NUM_THREADS": "1", **(env or {})}
        running.append(subprocess.Popen([sys.executable, *command], env=own, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True))
    return running


def finished(running: Sequence[subprocess.Popen[str]], seconds: float = 240) -> None:
    """Wait for all of them; an assertion with what each said, where one failed.

    The first to fail says the least where it fails because another one is gone: all are heard.
    """
    until = time.monotonic() + seconds
    with ThreadPoolExecutor(len(running)) as readers:  # at the same time: a full pipe holds up whoever writes into it
        said = [*readers.map(lambda process: _said(process, until), running)]
    codes = [process.returncode for process in running]
    assert not any(codes), "\n".join(f"--- process {rank} ended with {code}:\n{output}"
                                     for rank, (code, output) in enumerate(zip(codes, said, strict=True)))


def _said(process: subprocess.Popen[str], until: float) -> str:
    """What it said until its end, which is brought about if it has not come in time."""
    try:
        return process.communicate(timeout=max(until - time.monotonic(), 1))[0]
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()[0] + "\n(killed: it did not end in time)"
