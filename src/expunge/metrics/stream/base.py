"""What every accumulator knows: which items it has seen, which were left out and why, and how it lies on disk.

A run that was killed goes on from its states; shares of several processes are merged. An item that comes twice is an
error, for a batch that is added again after a restart would else count double.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor
from typing_extensions import Self

from expunge import untrusted
from expunge.errors import ExpungeError, UserError
from expunge.records import ItemKey
from expunge.sealed import read_sealed_tensors, write_sealed_tensors

_META = "expunge.stream"
_VERSION = 1


@dataclass(frozen=True)
class State:
    """An accumulator as it lies on disk: tensors, and values that are JSON."""

    kind: str
    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]


class Accumulator:
    """Items in the order in which they came, each once, and how many were left out by reason.

    Attributes:
        kind: what its states are called on disk.
        items: (prompt, seed) of what is in it.
    """

    kind: ClassVar[str]

    def __init__(self) -> None:
        self.items: list[ItemKey] = []
        self._lost: dict[ItemKey, str] = {}
        self._counts: Counter[str] = Counter()
        self._known: set[ItemKey] = set()

    def leave_out(self, reason: str, count: int = 1) -> None:
        """Count what was asked for and never became an image ("broken file", "empty prompt")."""
        self._counts[reason] += count

    @property
    def left_out(self) -> dict[str, int]:
        """Counts by reason of what was asked for and is not in it."""
        return dict(Counter(self._lost.values()) + self._counts)

    @property
    def n(self) -> int:
        """How many items are in it."""
        return len(self.items)

    @property
    def prompts(self) -> int:
        """How many distinct prompts they come from."""
        return len({text for text, _ in self.items})

    def arrange(self, order: Sequence[ItemKey]) -> None:
        """Bring what is in it into this order, whatever the order in which several processes saw it.

        Raises:
            ExpungeError: an item that is in it and not in the order.
        """
        place = {item: number for number, item in enumerate(order)}
        strange = [item for item in self.items if item not in place]
        if strange:
            raise ExpungeError(f"{len(strange)} items that are in no place of an order", accepted="every item there is")
        rows = sorted(range(len(self.items)), key=lambda row: place[self.items[row]])
        if rows != list(range(len(rows))):
            self.items = [self.items[row] for row in rows]
            self._reorder(rows)

    def _reorder(self, rows: Sequence[int]) -> None:
        """Bring the values into the order of these rows."""
        raise NotImplementedError

    def _take(self, items: Sequence[ItemKey], why_not: Sequence[str]) -> None:
        """Note new items; those with a reason why not are left out.

        Raises:
            ExpungeError: another number of items than of values, or an item that is there.
        """
        if len(items) != len(why_not):
            raise ExpungeError(f"{len(items)} items with {len(why_not)} values", accepted="one value per item")
        again = [item for item in items if item in self._known] or \
            [item for item, times in Counter(items).items() if times > 1]
        if again:
            raise ExpungeError(f"{len(again)} of {len(items)} items are there already (first: seed {again[0][1]})",
                               accepted="each item once", remedy="go on after the last batch that was added")
        self._known.update(items)
        for item, why in zip(items, why_not, strict=True):
            if why:
                self._lost[item] = why
            else:
                self.items.append(ItemKey(*item))

    def _merged(self, other: Self) -> None:
        if type(other) is not type(self):
            raise ExpungeError(f"a {other.kind} to merge into a {self.kind}", accepted="two of one kind")
        self._take([*other.items, *other._lost], [""] * len(other.items) + [*other._lost.values()])
        self._counts += other._counts

    def _values(self) -> dict[str, Any]:
        return {"items": [list(item) for item in self.items], "counts": dict(self._counts),
                "lost": [[*item, why] for item, why in self._lost.items()]}

    def _fill(self, state: State) -> None:
        """Items and counts of a state.

        Raises:
            UserError: it is another kind's.
        """
        if state.kind != self.kind:
            raise UserError(f"the state of a {state.kind}", accepted=f"that of a {self.kind}")
        items, lost = state.values["items"], state.values["lost"]
        self._take([ItemKey(str(one[0]), int(one[1])) for one in [*items, *lost]],
                   [""] * len(items) + [str(one[2]) for one in lost])
        self._counts = Counter(state.values["counts"])


def write_states(path: Path, states: Mapping[str, State]) -> None:
    """Several accumulators in one safetensors file, by names of the caller's; atomic, so a kill leaves the last one.

    Raises:
        StorageError: it cannot be written.
    """
    tensors = {f"{name}/{part}": tensor.contiguous() for name, state in states.items()
               for part, tensor in state.tensors.items()}
    told = {name: {"kind": state.kind, "values": dict(state.values)} for name, state in states.items()}
    write_sealed_tensors(path, tensors, {_META: json.dumps({"version": _VERSION, "states": told}, ensure_ascii=False)})


def read_states(path: Path) -> dict[str, State]:
    """What `write_states` wrote.

    Raises:
        UserError: there is no such file, it is damaged, or by another version.
    """
    try:
        tensors, about = read_sealed_tensors(path)
        told = untrusted.json_in(about[_META])
    except Exception as error:  # safetensors has its own error types
        raise UserError(f"{path} cannot be read: {type(error).__name__}: {error}", accepted="states of a stream",
                        remedy="delete the file; what was measured is measured again") from error
    if told["version"] != _VERSION:
        raise UserError(f"{path} is of version {told['version']}", accepted=str(_VERSION),
                        remedy="delete the file; what was measured is measured again")
    return {name: State(one["kind"], {part.removeprefix(f"{name}/"): tensor for part, tensor in tensors.items()
                                      if part.startswith(f"{name}/")}, one["values"])
            for name, one in told["states"].items()}
