"""A run's work in stages (pools, tables of targets, warm-ups, steps): all of it, or the beginning of each, timed.

What a run will take is measured on the run itself: a rehearsal does the same work with the same parts, and stops in
every stage after a few items. Nobody predicts a cost, so no part can be wrong about its own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch

from expunge import runtime
from expunge.train import Progress

Item = TypeVar("Item")
ITEMS = 4
"""Most items of a stage that a rehearsal times, after a first one that finds caches cold: 4 steps hold every phase of
parts that do something in each second or fourth step."""
SLOW = 1.0
"""Seconds from which on a first item counts too: what is only done once hardly lengthens it."""
ENOUGH = 10.0
"""Seconds of a stage after which a rehearsal leaves it, even with less than `ITEMS` items."""


class Stages:
    """All of the work."""

    def __init__(self, tell: Progress | None = None) -> None:
        """`tell` is told, without losses, of every item that is done."""
        self._tell = tell

    def each(self, items: Sequence[Item]) -> Iterator[Item]:
        """The items of a stage, which cost about alike."""
        for done, item in enumerate(items, start=1):
            yield item
            if self._tell is not None:
                self._tell(done, len(items), {})


class Rehearsal(Stages):
    """The beginning of every stage. What the others' items would have made is left as it was allocated."""

    def __init__(self, device: torch.device) -> None:
        """Begins to measure what `device` does."""
        super().__init__()
        self._device = device
        self._began, self._timed, self._expected, self._within = time.perf_counter(), 0.0, 0.0, 0.0
        self.counted = 0

    def each(self, items: Sequence[Item]) -> Iterator[Item]:
        """The first few; a stage that begins within an item of another is none of that item's time.

        Afterwards `counted` says how many items of this stage were timed.
        """
        began, outer, took = time.perf_counter(), self._within, list[float]()
        for item in items[:1 + ITEMS]:
            start, self._within = time.perf_counter(), 0.0
            yield item
            runtime.wait_for(self._device)
            took.append(time.perf_counter() - start - self._within)
            if sum(took) > ENOUGH:
                break
        warm = took[1:] if len(took) > 1 and took[0] < SLOW else took
        self.counted = len(warm)
        self._timed += sum(took)
        self._expected += sum(warm) / max(1, len(warm)) * len(items)
        self._within = outer + time.perf_counter() - began

    @property
    def seconds(self) -> float:
        """Of a whole run: all items of every stage at the mean of those timed, and once whatever else was done."""
        return time.perf_counter() - self._began - self._timed + self._expected
