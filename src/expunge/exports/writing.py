"""What every format is given and gives back."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from expunge.errors import ModelError, UserError
from expunge.exports.base import Base, Change, changes, told
from expunge.exports.low_rank import ENERGY
from expunge.models.patch import Patch
from expunge.records import counted
from expunge.records.export import ExportedTensor

Expected = Callable[[Change], Tensor]
"""What a reader of the file must find in place of a weight that it carries, float32 in the weight's shape."""


@dataclass(frozen=True)
class Job:
    """What is to be written.

    Attributes:
        patch, base: the edit and the model that it was made on. out: how the result will be called.
        dtype: number type of the written tensors. energy, rank: where factors are cut, see `exports.low_rank`.
        drop: whether what the format cannot carry may be left out. component: of a file of one component, which.
        title: for people; "" is the file's name.
        shard_size, write_variant: of folders: largest file, in words ("5GB"), and the name of the set of weights
            ("fp16"); "" is diffusers' own size, and no name.
    """

    patch: Patch
    base: Base
    out: Path
    dtype: torch.dtype
    energy: float = ENERGY
    rank: int | None = None
    drop: bool = False
    component: str = ""
    title: str = ""
    shard_size: str = ""
    write_variant: str = ""


@dataclass(frozen=True)
class Written:
    """What was written.

    Attributes:
        tensors: weight by weight. error: of all changes together, relative.
        expected: what a reader must find of the weights that are carried; `meant` knows all.
        left_out: weights that are not carried, with the reason; lost: |D_left out| / |D|.
        notes: what whoever takes the file must know. dtype: the written tensors', in words.
        cut: whether factors were truncated.
    """

    tensors: tuple[ExportedTensor, ...]
    expected: Expected
    error: float
    left_out: Mapping[str, str] = field(default_factory=dict)
    lost: float = 0.0
    notes: tuple[str, ...] = ()
    dtype: str = "float32"
    cut: bool = False

    @property
    def names(self) -> set[str]:
        """Full names of the weights that the file is about, those that it leaves out included."""
        return {entry.name for entry in self.tensors} | {*self.left_out}

    def meant(self, change: Change) -> Tensor:
        """What a reader must find in place of a weight: of one that was left out, the base's own. float32."""
        return change.before.float() if change.name in self.left_out else self.expected(change)


@dataclass
class Tally:
    """What is carried and what is left out, and the squared sums that their totals are made of.

    Attributes:
        entries: of the record, one for each weight that is carried. left: reasons of those that are not, by full name.
        wanted, missed: squared changes of weights that are carried, and what the file lacks of them. gone: of those
            that are left out.
    """

    entries: list[ExportedTensor] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    wanted: float = 0.0
    missed: float = 0.0
    gone: float = 0.0

    def leave(self, change: Change, why: str) -> None:
        """A weight that the file does not carry."""
        self.left[change.name] = why
        self.gone += float(change.delta.pow(2).sum())

    def written(self, expected: Expected, dtype: str, notes: tuple[str, ...] = (), cut: bool = False) -> Written:
        """What was written, with all totals: `error` |D - D'| / |D| of what is carried, `lost` |D_left| / |D|."""
        error = (self.missed / self.wanted) ** 0.5 if self.wanted else 0.0
        lost = (self.gone / (self.gone + self.wanted)) ** 0.5 if self.gone else 0.0
        return Written(tuple(self.entries), expected, error, self.left, lost, notes, dtype, cut)

    def add(self, change: Change, got: Tensor, counts: tuple[int, int], *, key: str = "", rank: int | None = None,
            kept: float | None = None) -> None:
        """A weight whose change is `got`, float64, in the written file; `counts`: as `base.told` has them."""
        delta = change.delta
        wanted, missed = float(delta.pow(2).sum()), float((delta - got.reshape(delta.shape)).pow(2).sum())
        self.wanted, self.missed = self.wanted + wanted, self.missed + missed
        changed, survived = counts
        self.entries.append(ExportedTensor(name=change.name, key=key, rank=rank, kept=kept,
                                           error=(missed / wanted) ** 0.5, changed=changed, survived=survived))


def whole_values(job: Job, component: str = "", keys: Callable[[str], str] = lambda name: "") -> Tally:
    """Entries of weights (of one component) that are written as they become, in the job's number type.

    Raises:
        ModelError: the number type tells none of the changes apart, or cannot hold a value.
    """
    tally = Tally()
    for change in changes(job.patch, job.base):
        if not change.name.startswith(component):
            continue
        cast = change.after.to(job.dtype)
        check_finite(change.name, cast)
        before = change.before.to(job.dtype).double()
        tally.add(change, cast.double() - before, told(change, job.dtype), key=keys(change.name))
    check_survives(tally.entries, job.dtype)
    return tally


def check_finite(name: str, value: Tensor) -> None:
    """ModelError: a number type that does not hold a value."""
    if not bool(value.float().isfinite().all()):
        raise ModelError(f"{name!r} is not finite in {words(value.dtype)}", accepted="a number type that holds it",
                         remedy="take --dtype bfloat16 or float32")


def check_survives(entries: list[ExportedTensor], number: torch.dtype) -> None:
    """ModelError: nothing changes, or the number type rounds every change away."""
    if not entries:
        raise ModelError("the patch changes nothing here", accepted="a patch that does")
    if not any(entry.survived for entry in entries):
        raise ModelError(f"no change of the patch is left in {words(number)}: all are smaller than it can tell apart",
                         accepted="a number type that holds them", remedy="take --dtype float32")


def refuse_or_leave(job: Job, why_not: Callable[[str], str]) -> Tally:
    """A tally in which the weights are left out that change and that the format cannot carry.

    Args:
        why_not: why the format cannot carry the weight of a full name, in words; "" where it can.

    Raises:
        UserError: there are such, and the caller did not let them go.
    """
    reasons = {name: why for name in job.patch.weights if (why := why_not(name))}
    tally = Tally()
    for change in changes(job.patch, job.base, reasons):
        tally.leave(change, reasons[change.name])
    if tally.left and not job.drop:
        first = next(iter(tally.left))
        raise UserError(f"{counted(len(tally.left), 'weights')} of the patch that this format cannot carry: {first!r} "
                        f"first, {tally.left[first]}", accepted="a patch of weights of linear and convolutional layers",
                        remedy="--drop leaves them out and names them; a folder, a checkpoint or the full difference "
                        "(diff-comfy) carries them")
    return tally


def gap(got: Tensor, wanted: Tensor) -> float:
    """Largest difference between two tensors of one shape; infinite where one is not a number, which equals nothing."""
    return float((got.float() - wanted.float()).abs().nan_to_num(math.inf, math.inf).max())


def words(number: torch.dtype) -> str:
    """ "float16" """
    return str(number).removeprefix("torch.")


