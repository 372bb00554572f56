"""Where work runs: device, number type, processes. The only module that knows accelerate.

Item i of what is shared out goes to rank i mod count. Where the shape of a batch decides how its results round, whole
batches are the items (`models.cache`), so what is computed does not depend on how many processes there are. Training
shares rows instead (`unlearn.shared_rows`), and rounds otherwise for each number of processes. accelerate is imported
only when several processes were launched (`torchrun`, `accelerate launch`): one pays nothing for it.
"""

from __future__ import annotations

import atexit
import json
import os
import platform
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from expunge.errors import ResourceError, UserError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
Progress = Callable[[int, int, str], None]
"""Called with (done, in all, what is being done); a smaller `done` than before begins the next piece of work."""

DTYPES = {"float32": "float32", "fp32": "float32", "float16": "float16", "fp16": "float16",
          "bfloat16": "bfloat16", "bf16": "bfloat16"}
"""Accepted spellings of number types -> torch's name."""

_PACKAGES = ("torch", "diffusers", "transformers")


@dataclass(frozen=True)
class Runtime:
    """One process among `count`.

    Attributes:
        device: where this process computes ("cpu", "cuda:1").
        rank: number of this process, 0..count-1; count: processes in all.
    """

    device: torch.device
    rank: int = 0
    count: int = 1

    @property
    def main(self) -> bool:
        """Whether this is the process that prints and writes results."""
        return self.rank == 0

    def shard(self, items: Sequence[T]) -> list[T]:
        """The items that belong to this process: every `count`-th, from `rank` on."""
        return list(items[self.rank::self.count])

    def shard_batches(self, items: Sequence[T], size: int) -> list[T]:
        """The items that belong to this process where `size` of them are one batch that is not to be cut."""
        batches = [items[start:start + size] for start in range(0, len(items), size)]
        return [item for batch in self.shard(batches) for item in batch]

    def barrier(self) -> None:
        """Wait until every process is here.

        Raises:
            ResourceError: one of them is gone.
        """
        if self.count > 1:
            from accelerate import PartialState

            with _with_the_others():
                PartialState().wait_for_everyone()

    def gather(self, records: Mapping[int, Any]) -> list[Any]:
        """All processes' JSON-able records, in the order of their item numbers, on every process.

        Args:
            records: this process's records by item number; an item number may appear in one process only.
        """
        lines = [json.dumps([index, record]) for index, record in records.items()]
        if self.count > 1:
            from accelerate.utils import gather_object

            with _with_the_others():
                lines = gather_object(lines)
        pairs = sorted((json.loads(line) for line in lines), key=lambda pair: pair[0])
        return [record for _, record in pairs]

    def stacked(self, mine: torch.Tensor) -> torch.Tensor:
        """Every process's tensor (n, ...), in their order: (count * n, ...), on every process; no gradient."""
        if self.count == 1:
            return mine
        from accelerate.utils import gather

        with _with_the_others():
            every: torch.Tensor = gather(mine.contiguous())
        return every

    def summed(self, mine: torch.Tensor) -> torch.Tensor:
        """The sum of every process's tensor, the same on every process, to the last bit; no gradient."""
        if self.count == 1:
            return mine
        from accelerate.utils import reduce

        with _with_the_others():
            total: torch.Tensor = reduce(mine, "sum")
        return total

    def any_of(self, *flags: bool) -> tuple[bool, ...]:
        """Of each flag, whether it is set in one process at least; the same on every process."""
        if self.count == 1:
            return flags
        import torch

        return tuple(bool(count > 0) for count in self.summed(torch.tensor(flags, dtype=torch.float32,
                                                                           device=self.device)))


@contextmanager
def _with_the_others() -> Iterator[None]:
    """Inside, all processes exchange something.

    Raises:
        ResourceError: it failed, as it does where one of them is gone.
    """
    try:
        yield
    except RuntimeError as error:  # torch.distributed has no class of its own for it on every backend
        if exhausted(error) is not None:
            raise
        raise ResourceError(f"nothing can be exchanged with the other processes of this launch ({error})",
                            remedy="see what they said, one may be gone; the same command goes on from what was kept"
                            ) from error


def current(device: str = "auto") -> Runtime:
    """The process that this is, on the device that was asked for.

    Args:
        device: "auto" (cuda if there is one, then mps, then cpu), "cpu", "cuda", "cuda:N" or "mps". With
            several processes "auto" and "cuda" give each its own GPU.

    Raises:
        UserError: unknown device, or one that is not there.
    """
    count = launched()
    if count <= 1:
        return Runtime(_device(_own(device) if _APART.get() else device))
    if device not in {"auto", "cpu", "cuda"}:
        raise UserError(f"device {device!r} with {count} processes", accepted="auto, cpu or cuda",
                        remedy="each process takes its own device")
    import torch
    from accelerate import PartialState

    state = PartialState(cpu=_device(device).type == "cpu")
    atexit.unregister(_part)
    atexit.register(_part)
    # accelerate numbers processors too ("cpu:0"); there is but one.
    here = torch.device("cpu") if state.device.type == "cpu" else state.device
    return Runtime(here, state.process_index, state.num_processes)


def first() -> bool:
    """Whether this process is the one of its launcher that prints and writes results; without a launcher it is."""
    return int(os.environ.get("RANK", "0")) == 0


def launched() -> int:
    """How many processes a launcher (`torchrun`, `accelerate launch`) started together; 1 without one, and `apart`."""
    return 1 if _APART.get() else int(os.environ.get("WORLD_SIZE", "1"))


def neighbours() -> int:
    """How many processes of this launcher are on this machine, this one included."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


@contextmanager
def apart() -> Iterator[None]:
    """Inside, each process of a launcher works as if it were alone, on a GPU of its own: they share by files and locks.
    """
    token = _APART.set(True)
    try:
        yield
    finally:
        _APART.reset(token)


_APART: ContextVar[bool] = ContextVar("apart", default=False)


def _own(device: str) -> str:
    """The device of a process that works apart: where there are several GPUs, one for each process in turn."""
    import torch

    place, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
    return f"cuda:{place % there}" if device in {"auto", "cuda"} and there else device


def one_process(what: str, remedy: str = "start it without the launcher; `expunge evaluate` shares its images out"
                ) -> None:
    """Say that `what` cannot be shared out, before every process does all of it.

    Raises:
        UserError: there are several processes under one launcher.
    """
    if launched() > 1:
        raise UserError(f"{what} under a launcher of {launched()} processes", accepted="one process", remedy=remedy)


def without_weights() -> AbstractContextManager[Any]:
    """Inside, networks are made without memory for their parameters, which are given to them later."""
    from accelerate import init_empty_weights

    emptied: AbstractContextManager[Any] = init_empty_weights(include_buffers=False)
    return emptied


def _part() -> None:
    """Leave the group of processes in order: a process that just ends may be torn down in the middle of a thread."""
    import torch.distributed as group

    if group.is_initialized():
        group.destroy_process_group()


def _device(name: str) -> torch.device:
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, here in there.items() if here))
    known = ", ".join(["auto", *(kind for kind, here in there.items() if here)])
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(f"unknown device {name!r}", accepted=known) from error
    if not there.get(device.type, False) or (
            device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()):
        raise UserError(f"device {name!r} is not there", accepted=f"on this machine: {known}")
    return device


def parse_dtype(name: str | torch.dtype | None) -> torch.dtype:
    """The torch dtype called `name`; None means float32.

    Raises:
        UserError: not one of `DTYPES`.
    """
    import torch

    if isinstance(name, torch.dtype):
        name = str(name).removeprefix("torch.")
    if name is None:
        return torch.float32
    if name not in DTYPES:
        raise UserError(f"unknown number type {name!r}", accepted=", ".join(DTYPES))
    found: torch.dtype = getattr(torch, DTYPES[name])
    return found


_ASKED = re.compile(r"(?:tried to allocate|Unable to allocate) (?:more than )?([\d.]+ ?\w+)", re.IGNORECASE)
_FREE = re.compile(r"total capacity of ([\d.]+ \w+) of which ([\d.]+ \w+) is free")
_EXHAUSTED = ("out of memory", "can't allocate memory", "Unable to allocate", "not enough memory")


def exhausted(error: BaseException) -> str | None:
    """What an error says of memory that ran out: "4.0 GiB more, of 16.0 GiB (1.2 GiB free)"; None of any other error.

    Understood are those of torch (processor, CUDA, MPS), numpy and Python itself.
    """
    text = str(error)
    if not isinstance(error, MemoryError) and not (isinstance(error, RuntimeError)
                                                   and any(mark in text for mark in _EXHAUSTED)):
        return None
    asked, free, peak = _ASKED.search(text), _FREE.search(text), peak_memory()
    words = _readable(asked[1]) + " more were asked for" if asked else "no more is to be had"
    if free:
        return f"{words}, {free[2]} of {free[1]} are free"
    return f"{words}, {peak / 2**30:.1f} GiB were in use at most" if peak else words


@contextmanager
def memory_for(what: str, remedy: str) -> Iterator[None]:
    """Inside, memory that runs out is an error that says what took it and what helps.

    Raises:
        ResourceError: it ran out.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        known = exhausted(error)
        if known is None:
            raise
        raise ResourceError(f"out of memory: {what} ({known})", remedy=remedy) from error


def _readable(amount: str) -> str:
    """ "4294967296 bytes" -> "4.0 GiB"; what has a unit already stays."""
    number, _, unit = amount.partition(" ")
    return f"{float(number) / 2**30:.1f} GiB" if unit.startswith("byte") else amount


def versions() -> dict[str, str]:
    """Versions of expunge and of what decides its numbers; a package that is not installed says so."""
    from expunge import __version__

    found = {"expunge": __version__}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return {**found, "python": platform.python_version()}


def machine(device: torch.device | None = None) -> str:
    """Processor, cores that this process may use, and the device, in one line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parts = [_processor(), f"{cores} cores"]
    if device is not None and device.type == "cuda":
        import torch

        parts.append(torch.cuda.get_device_name(device))
    else:
        parts.append(device.type if device is not None else "cpu")
    return ", ".join(parts)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def wait_for(device: torch.device) -> None:
    """Wait until a device has done what it was given: an accelerator goes on while the program does."""
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)


def peak_memory(device: torch.device | None = None) -> int | None:
    """Most memory in use so far, in bytes: of the accelerator that `device` is, else of the process.

    None where the system does not tell.
    """
    if device is not None and device.type == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated(device))
    if sys.platform == "win32":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
