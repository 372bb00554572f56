"""One numpy array out of a pickle file that is never executed.

A pickle is a program. Here its instructions are listed by the standard library's `pickletools`, which runs none, and
followed by a machine that knows numbers, texts, bytes, tuples, and the few names by which numpy writes an array. Any
other instruction or name refuses the whole file.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expunge import untrusted
from expunge.errors import ModelError

MOST_BYTES = 64 * 2**20
_CORE = ("numpy.core", "numpy._core")
NAMES = {*(f"{core}.multiarray _reconstruct" for core in _CORE), *(f"{core}.numeric _frombuffer" for core in _CORE),
         "numpy ndarray", "numpy dtype", "_codecs encode",
         "__builtin__ bytes"}
"""Every name that may stand in the file."""
TYPES = ("f2", "f4", "f8", "i4", "i8", "u1")
"""Types of numbers that it may hold."""


def pickled_array(file: Path) -> NDArray[Any]:
    """The array in `file`.

    Raises:
        ModelError: the file is too large, damaged, or holds anything but one numpy array.
    """
    try:
        found = _Machine().run(untrusted.content(file, MOST_BYTES))
        if not isinstance(found, _Array):
            raise _Refused("it holds no array")
        return found.made()
    except _Refused as error:
        raise ModelError(f"{file} is not read: {error}", accepted="a pickle of one numpy array, and nothing else",
                         remedy="it was not executed") from error
    except Exception as error:  # what a damaged file leads to depends on where the damage is
        raise ModelError(f"{file} cannot be read: {error}", accepted="a pickle of one numpy array") from error


class _Refused(Exception):
    """An instruction or a name that has no place in an array."""


class _Name(str):
    """A name that the file mentions; it stands for nothing but itself."""

    __slots__ = ()


class _Type:
    """A type of numbers: numpy's letters, and the order of bytes that its state tells."""

    def __init__(self, code: str) -> None:
        self.code, self.order = code.lstrip("<>|="), code[:1] if code[:1] in "<>|=" else "<"

    def made(self) -> np.dtype[Any]:
        if self.code not in TYPES or self.order not in "<>|=":
            raise _Refused(f"numbers of type {self.order}{self.code}")
        return np.dtype(f"{self.order.replace('|', '')}{self.code}")


class _Array:
    """An array in the making."""

    def __init__(self) -> None:
        self.shape: Any = None
        self.type: Any = None
        self.fortran = False
        self.data: Any = b""

    def made(self) -> NDArray[Any]:
        if not (isinstance(self.type, _Type) and isinstance(self.data, bytes | bytearray)
                and isinstance(self.shape, tuple) and all(isinstance(n, int) and n >= 0 for n in self.shape)):
            raise _Refused("it holds no whole array")
        flat = np.frombuffer(bytes(self.data), dtype=self.type.made())
        shaped: NDArray[Any] = flat.reshape(self.shape, order="F" if self.fortran else "C").copy()
        return shaped


class _Machine:
    """A stack, a memory, and what each instruction does to them."""

    MARK = object()

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memory: dict[int, Any] = {}

    def run(self, program: bytes) -> Any:
        """What the program leaves on the stack."""
        for opcode, argument, _ in pickletools.genops(io.BytesIO(program)):
            if opcode.name == "STOP":
                return self.stack[-1] if len(self.stack) == 1 else None
            if opcode.name in _VALUES:
                self.stack.append(argument)
            elif opcode.name in _STEPS:
                _STEPS[opcode.name](self, argument)
            else:
                raise _Refused(f"instruction {opcode.name}")
        raise _Refused("no end")

    def name(self, argument: Any) -> None:
        """GLOBAL: "module name" in one text."""
        if argument not in NAMES:
            raise _Refused(f"it names {argument!r}")
        self.stack.append(_Name(argument))

    def stack_name(self, _: Any) -> None:
        """STACK_GLOBAL: module and name on the stack."""
        name, module = self.stack.pop(), self.stack.pop()
        self.name(f"{module} {name}")

    def remember(self, place: Any) -> None:
        """PUT and MEMOIZE."""
        self.memory[len(self.memory) if place is None else int(place)] = self.stack[-1]

    def recall(self, place: Any) -> None:
        """GET."""
        self.stack.append(self.memory[int(place)])

    def tuple_of(self, count: int) -> None:
        """TUPLE1, TUPLE2, TUPLE3."""
        start = len(self.stack) - count
        self.stack[start:] = [tuple(self.stack[start:])]

    def marked_tuple(self, _: Any) -> None:
        """TUPLE: everything since the last mark."""
        start = len(self.stack) - 1 - self.stack[::-1].index(self.MARK)
        self.stack[start:] = [tuple(self.stack[start + 1:])]

    def call(self, _: Any) -> None:
        """REDUCE: only what numpy's arrays are made by, and nothing is called."""
        arguments, what = self.stack.pop(), self.stack.pop()
        if not isinstance(what, _Name) or not isinstance(arguments, tuple):
            raise _Refused("it calls something")
        if what == "numpy dtype":
            self.stack.append(_Type(str(arguments[0])))
        elif what == "_codecs encode" and arguments[1:] == ("latin1",):
            self.stack.append(str(arguments[0]).encode("latin1"))
        elif what == "__builtin__ bytes" and not arguments:  # how the older forms write no bytes at all
            self.stack.append(b"")
        elif what.endswith("_reconstruct"):
            self.stack.append(_Array())
        elif what.endswith("_frombuffer"):
            array = _Array()
            array.data, array.type, array.shape, order = arguments
            array.fortran = order == "F"
            self.stack.append(array)
        else:
            raise _Refused(f"it calls {what}")

    def build(self, _: Any) -> None:
        """BUILD: the state of an array or of a type of numbers."""
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, _Type):
            target.order = str(state[1])
        elif isinstance(target, _Array):
            _, target.shape, target.type, target.fortran, target.data = state
        else:
            raise _Refused("it builds something")


_VALUES = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "FLOAT", "BINFLOAT"}
_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda machine, _: None, "FRAME": lambda machine, _: None, "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.stack_name, "MARK": lambda machine, _: machine.stack.append(_Machine.MARK),
    "PUT": _Machine.remember, "BINPUT": _Machine.remember, "LONG_BINPUT": _Machine.remember,
    "MEMOIZE": _Machine.remember, "GET": _Machine.recall, "BINGET": _Machine.recall, "LONG_BINGET": _Machine.recall,
    "NONE": lambda machine, _: machine.stack.append(None), "NEWTRUE": lambda machine, _: machine.stack.append(True),
    "NEWFALSE": lambda machine, _: machine.stack.append(False),
    "EMPTY_TUPLE": lambda machine, _: machine.stack.append(()), "TUPLE": _Machine.marked_tuple,
    "TUPLE1": lambda machine, _: machine.tuple_of(1), "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3), "REDUCE": _Machine.call, "BUILD": _Machine.build}
