"""Which things are of a concept's kind: as the world says, or else nobody knows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable


@runtime_checkable
class KnowsKinds(Protocol):
    """A world that can tell which of its things are of one kind."""

    def kin(self, concept: str) -> Sequence[str]:
        """Things of the concept's kind (of a style, the other styles); () where there are none."""
        ...


def kin_of(world: object, concept: str) -> tuple[str, ...]:
    """Things of the concept's kind; () where there are none, or the world knows no kinds."""
    return tuple(world.kin(concept)) if isinstance(world, KnowsKinds) else ()
