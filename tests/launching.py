"""Several processes of one launcher, told of each other as `torchrun` does."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence


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
    """Wait for all of them; an assertion with what one said that failed."""
    for process in running:
        output = process.communicate(timeout=seconds)[0]
        assert process.returncode == 0, output
