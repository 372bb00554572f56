"""A forward that may be asked for twice and is made once.

Whoever caps how far an ascent raises a loss must look at the loss behind it, and the step that follows asks for the
same forward again.

Source: ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Remembered(Generic[T]):
    """A forward that gives what it was last seen to give once more, until told that this is stale."""

    def __init__(self, forward: Callable[[], T]) -> None:
        self._forward, self._last = forward, list[T]()

    def look(self) -> T:
        """A forward, remembered; what was remembered before is let go first."""
        self._last.clear()
        self._last.append(self._forward())
        return self._last[0]

    def settle(self, current: bool) -> None:
        """Keep what was seen only if nothing that it hangs on has moved since."""
        if not current:
            self._last.clear()

    def __call__(self) -> T:
        """What was seen, once; else a forward."""
        return self._last.pop() if self._last else self._forward()
