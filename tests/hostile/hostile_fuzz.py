"""Mutations of what is good, for every reader: bytes flipped, cut and copied; fields dropped and swapped in type."""

from __future__ import annotations

import contextlib
import copy
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hostile_readers import READERS
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from expunge.errors import UserError

FEW = settings(max_examples=8, deadline=None, derandomize=True, database=None, phases=(Phase.generate,),
               suppress_health_check=list(HealthCheck))
"""Of the default suite: seconds for each reader, and the same examples in each run."""
MANY = settings(FEW, max_examples=100, phases=(Phase.generate, Phase.shrink))
ODD: tuple[Any, ...] = (None, True, -1, 0, 2**31, 2**63, 2**64, 10**90, 1e308, -1e308, float("nan"), float("inf"), "",
                        "1", "\x1b[2J", "\u202e", "\0", "\ud800", "a" * 5000, "<script>", "| a |\n# b", [], {}, [[]],
                        {"a": 1}, ["a"], [None], [1, "a"])
"""What stands in a field's place."""
odd_values = st.sampled_from(ODD).map(copy.deepcopy)


def places(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to each value inside a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, its in inside:
        yield (*before, key)
        yield from places(its, (*before, key))


@st.composite
def values_like(draw: st.DrawFn, value: Any) -> Any:
    """A JSON value with some of its fields dropped, doubled or replaced."""
    made = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 3))):
        ways = list(places(made))
        if not ways:
            return draw(odd_values)
        *way, last = draw(st.sampled_from(ways))
        holder = made
        for key in way:
            holder = holder[key]
        what = draw(st.sampled_from(("drop", "odd", "odd", "odd", "swap", "add")))
        if what == "drop":
            del holder[last]
        elif what == "odd":
            holder[last] = draw(odd_values)
        elif what == "swap":
            other = made
            for key in draw(st.sampled_from(ways)):
                other = other[key] if isinstance(other, dict | list) and ((isinstance(other, dict) and key in other) or
                                                                       (isinstance(other, list) and
                                                                       isinstance(key, int) and
                                                                       key < len(other))) else None
            holder[last] = copy.deepcopy(other)
        elif isinstance(holder, dict):
            holder[draw(st.text(max_size=5))] = draw(odd_values)
        else:
            holder.append(draw(odd_values))
    return made


@st.composite
def bytes_like(draw: st.DrawFn, data: bytes) -> bytes:
    """Bytes with some of them flipped, cut out, cut off, or put in."""
    made = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, min(len(made), 4096) - 1)))  # the beginning says what the rest is
        what = draw(st.sampled_from(("flip", "flip", "cut", "end", "put", "copy")))
        if what == "flip" and made:
            made[at] ^= 1 << draw(st.integers(0, 7))
        elif what == "cut":
            del made[at:at + draw(st.integers(1, 64))]
        elif what == "end":
            del made[draw(st.integers(0, len(made))):]
        elif what == "put":
            made[at:at] = draw(st.binary(min_size=1, max_size=16))
        else:
            made[at:at] = made[at:at + draw(st.integers(1, 64))]
    return bytes(made)


def as_json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=True).encode()


def reads_or_tells(reader: str, good: Any, folder: Path, spoil: Callable[[Path], None]) -> None:
    """Read what is spoilt: that gives something, or an error of expunge's own."""
    shutil.rmtree(folder, ignore_errors=True)
    path, file = READERS[reader].make(good, folder)
    spoil(file)
    with contextlib.suppress(UserError):
        READERS[reader].read(path, good)


def both(kinds: Any) -> Any:
    """A test of each reader with few examples, and with many where slow tests run."""
    return pytest.mark.parametrize(("reader", "most"), [
        *(pytest.param(name, FEW, id=name) for name in kinds),
        *(pytest.param(name, MANY, id=f"{name}, long", marks=pytest.mark.slow) for name in kinds)])
