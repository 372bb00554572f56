"""Which things are of a concept's kind: as who asks says, or else nobody knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable


@runtime_checkable
class KnowsKinds(Protocol):
    """Who can tell which of the things are of one kind."""

    def kin(self, concept: str) -> Sequence[str]:
        """Things of the concept's kind (of a style, the other styles); () where there are none."""
        ...


def kin_of(asks: object, concept: str) -> tuple[str, ...]:
    """Things of the concept's kind; () where there are none, or no kinds are known."""
    return tuple(asks.kin(concept)) if isinstance(asks, KnowsKinds) else ()
