"""A bench by workers that an executor starts: on this machine, or as jobs of a Slurm cluster.

Workers are the same `expunge bench` with the same file, and share the cells by their locks: they may come and go, and
one that is lost costs the cell that it was at. submitit starts them; what it keeps about them lies in `<out>/fleet`.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.bench.cells import CELL
from expunge.bench.settings import BenchSettings
from expunge.errors import ResourceError, UserError, install
from expunge.files import check_writable, write_text
from expunge.runtime import Progress

if TYPE_CHECKING:
    from submitit import Job

log = logging.getLogger(__name__)

FLEET = "fleet"
FILE = "bench.yaml"
MINUTES = 7 * 24 * 60
"""How long a worker may take where nothing else is said: the executor's own limit is minutes."""
PAUSE = 1.0
"""Seconds between two looks at the workers."""


def submit(text: str, workers: int, *, out: Path, only: Sequence[str] = (), cluster: str = "local",
           parameters: Mapping[str, Any] | None = None) -> list[Job[str]]:
    """Start workers on a bench.

    Args:
        text: the bench as YAML; it is written to `<out>/fleet/bench.yaml`, which workers read.
        workers: how many.
        out: the bench's folder, which all workers see.
        only: as in `run_bench`.
        cluster: "local": processes of this machine; "slurm": jobs.
        parameters: of submitit's executor, such as timeout_min, gpus_per_node or slurm_partition.

    Raises:
        UserError: submitit is not installed, there is no such cluster here, or it does not know a parameter.
        StorageError: the folder cannot be written.
    """
    try:
        import submitit
        from submitit.helpers import CommandFunction
    except ImportError as error:
        raise UserError("workers without submitit", accepted="the extra fleet", remedy=install("fleet")) from error
    folder = out / FLEET
    check_writable(folder)
    write_text(folder / FILE, text)
    command = [sys.executable, "-m", "expunge", "bench", str(folder / FILE), "--out", str(out),
               *(word for name in only for word in ("--only", name))]
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        executor.update_parameters(**{"name": "expunge-bench", "timeout_min": MINUTES, **(parameters or {})})
        return [executor.submit(CommandFunction(command)) for _ in range(workers)]
    except (RuntimeError, NameError, TypeError, ValueError, AssertionError) as error:
        raise UserError(f"the executor {cluster!r}: {error}", accepted="a cluster that is here, and parameters that "
                        "submitit knows for it") from error


def wait(jobs: Sequence[Job[str]], settings: BenchSettings, out: Path, tell: Progress) -> None:
    """Until every worker has ended; told (cells made, in all, workers that are left). A lost one costs a cell.

    Raises:
        ResourceError: all have failed, and no cell was added to those of earlier runs.
    """
    before, total = _made(out), len(settings.methods) * len(settings.concepts) * len(settings.seeds)
    while left := [job for job in jobs if not job.done()]:
        tell(_made(out), total, f"{len(left)} of {len(jobs)} workers")
        time.sleep(PAUSE)
    lost = [job for job in jobs if job.exception() is not None]
    if len(lost) == len(jobs) and before == _made(out) < total:
        raise ResourceError(f"{len(jobs)} workers ended without a cell", remedy=f"their logs are in {out / FLEET}")
    for job in lost:
        log.warning("worker %s ended with an error, as it does where a cell failed: %s", job.job_id, job.paths.stderr)


def _made(out: Path) -> int:
    return sum(1 for _ in (out / "cells").glob(f"*/*/*/{CELL}"))
