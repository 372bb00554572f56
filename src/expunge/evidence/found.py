"""The records of a run: where they lie, of which kind they are, and whether they are about one edit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from expunge.errors import UserError
from expunge.records import (
    EVALUATIONS,
    PROTOCOLS,
    RELEARNINGS,
    SUITE_RESULTS,
    Evaluation,
    Relearning,
    Score,
    SuiteResult,
    read_card,
)
from expunge.records.protocol import ProtocolResult

Measured = Evaluation | SuiteResult | ProtocolResult
SCORED = (EVALUATIONS, SUITE_RESULTS, PROTOCOLS)
"""Kinds of records with scores."""


@dataclass(frozen=True)
class Found:
    """A record and its file."""

    path: Path
    record: Measured

    @property
    def short(self) -> str:
        """The file with its folder, for a message."""
        return f"{self.path.parent.name}/{self.path.name}"

    @property
    def patch_hash(self) -> str:
        """Of the edit that it is about; "" for none."""
        return self.record.card.tensors_hash if isinstance(self.record, Evaluation) else self.record.patch_hash

    @property
    def scores(self) -> tuple[Score, ...]:
        """All of its scores, those of attacks that an evaluation took in included."""
        suite = self.record.suite if isinstance(self.record, Evaluation) else None
        return (*self.record.scores, *(suite.scores if suite is not None else ()))


def records_at(path: Path) -> list[Found]:
    """The records at `path`: an evaluation, attacks, a protocol's result, or all of these in a run's folder.

    Attacks that an evaluation took in are there once.

    Raises:
        UserError: there is none, or one is damaged.
    """
    own = [(stored, file) for stored in SCORED if (file := stored.at(path)) is not None]
    if not own and path.is_dir():
        own = [(stored, file) for folder in sorted(path.iterdir()) if folder.is_dir()
               for stored in SCORED if (file := stored.at(folder)) is not None]
    if not own:
        raise UserError(f"no record at {path}", accepted="the record or the folder of an evaluation, of attacks or of "
                        "a protocol, or a patch's folder with these in it",
                        remedy="make one with `expunge evaluate PATCH` or `expunge attack PATCH`")
    found = [Found(file, stored.read(file)) for stored, file in own]
    taken_in = [one.record.suite for one in found if isinstance(one.record, Evaluation)]
    return [one for one in found if one.record not in taken_in]


def records_of_edit(run: Path) -> list[Found]:
    """The records in a patch's folder, where all of them are about that patch.

    Raises:
        UserError: as `records_at`, or one is not (`strangers`).
    """
    found = records_at(run)
    odd = [*strangers(run, found)]
    if odd:
        raise UserError("; ".join(odd), accepted="records of this patch", remedy="take them out of the folder, or "
                        "measure this patch again")
    return found


def relearnings_at(path: Path) -> list[tuple[Path, Relearning]]:
    """Relearning curves in the folders of a run, with their files."""
    files = [file for folder in sorted(path.iterdir()) if folder.is_dir()
             if (file := RELEARNINGS.at(folder)) is not None] if path.is_dir() else []
    return [(file, RELEARNINGS.read(file)) for file in files]


def strangers(path: Path, found: Sequence[Found]) -> Iterator[str]:
    """In words, the records that are not about the edit at `path`, are about none, or rest on stand-ins."""
    beside = path / "patch.safetensors" if path.is_dir() else path
    there = [one.patch_hash for one in found if one.patch_hash]
    whose = read_card(beside).tensors_hash if beside.name == "patch.safetensors" and beside.is_file() else \
        there[0] if there else ""
    for one in found:
        if not one.patch_hash:
            yield f"{one.short} measured the model without an edit"
        elif one.patch_hash != whose:
            yield f"{one.short} is about another patch ({one.patch_hash[:12]}, not {whose[:12]})"
        if isinstance(one.record, ProtocolResult) and one.record.test_only:
            yield f"{one.short} rests on a stand-in for tests"
