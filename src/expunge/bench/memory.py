"""The most memory that a process held during a piece of its work, not since it began.

Linux keeps a high-water mark of the resident pages that can be set back ("5" into /proc/self/clear_refs); accelerators
keep one of their own. Elsewhere nothing is known, and nothing is guessed.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import TracebackType

import torch


class PeakMemory:
    """`with PeakMemory(device) as peak: ...`, then `peak.bytes`: the most that was held inside, of the accelerator that
    `device` is, else of the process; None if that is not known."""

    bytes: int | None = None

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def __enter__(self) -> PeakMemory:
        self._cuda = self._device.type == "cuda"
        if self._cuda:
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            self._reset = _set_back()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
                 ) -> None:
        if self._cuda:
            self.bytes = int(torch.cuda.max_memory_allocated(self._device))
        elif self._reset:
            self.bytes = _high_water()


def _set_back() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _high_water() -> int | None:
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        return None
    return 1024 * int(found[1]) if found else None
