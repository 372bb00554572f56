"""What a run of a protocol keeps on disk, so that it can be killed at any moment and go on.

    plan.json                   what decides the results; another plan is refused by the names of what differs
    answers/RANK.jsonl          a line an image, with its digest; a damaged one is left out and made again
    state/RANK.safetensors      accumulators, with the batches that are in them

A batch is done once its answers are written and the accumulators on disk hold it. Accumulators are large and are
written once in a while; a batch that is in the answers alone is drawn again, and gives the same. Each process writes
files of its own, and the first one joins them before a run goes on.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from typing_extensions import Self

from expunge import untrusted
from expunge.errors import ModelError
from expunge.files import write_json
from expunge.metrics.stream.base import State, read_states, write_states
from expunge.protocols.answers import Answers, ImageKey, add_answers, mend_answers
from expunge.records import ItemKey
from expunge.records.protocol import ImageAnswer
from expunge.resume import Inputs
from expunge.runtime import Runtime

PLAN, STATE = "plan.json", "state"
EVERY = 60.0
"""Seconds between writes of the accumulators."""
_BATCHES = "batches"


class Part(Protocol):
    """An accumulator: what a score gathers from image after image, on disk as a state."""

    @property
    def state(self) -> State:
        """All of it."""
        ...

    @classmethod
    def from_state(cls, state: State) -> Self:
        """The accumulator of a state."""
        ...

    def merge(self, other: Any) -> None:
        """Take in another of its kind, which saw other images."""
        ...

    def arrange(self, order: Sequence[ItemKey]) -> None:
        """Bring the images into an order that does not depend on who saw them."""
        ...


class Kept:
    """A run's folder.

    Attributes:
        parts: this process's accumulators, by name.
    """

    def __init__(self, folder: Path, inputs: Inputs, parts: MutableMapping[str, Part], processes: Runtime
                 ) -> None:
        """Take up what is there; call it in all processes.

        Raises:
            ConfigError: it was begun under other settings. ModelError: a file is damaged.
        """
        self._folder, self._rank, self.parts = folder, processes.rank, parts
        self._in_parts: set[int] = set()
        self._written = time.monotonic()
        if processes.main:
            self._check(inputs)
            mend_answers(self._folder)
            self.join()
        processes.barrier()
        self._answered = Answers(self._folder)
        self._on_disk = self._in_file(self._file(0)) if parts else None

    def done(self, batch: int, images: Iterable[ImageKey]) -> bool:
        """Whether a batch need not be made: all its images (row, seed, subject) are answered, and the accumulators
        hold it. One of which a full disk kept a part is made again.
        """
        return all(one in self._answered for one in images) and (self._on_disk is None or batch in self._on_disk)

    def answered(self, images: Iterable[ImageKey]) -> Iterator[ImageAnswer]:
        """The answers of images that are done."""
        return self._answered.read([*images])

    def holds(self, batch: int) -> bool:
        """Whether the accumulators hold a batch already, this process's or those of all, as they lay on disk."""
        return batch in self._in_parts or (self._on_disk is not None and batch in self._on_disk)

    def add(self, batch: int, answers: Iterable[ImageAnswer]) -> None:
        """Write a batch's answers, once the accumulators hold it."""
        add_answers(self._folder, self._rank, batch, answers)
        self._in_parts.add(batch)
        if time.monotonic() - self._written > EVERY:
            self.save()

    def save(self) -> None:
        """Write this process's accumulators."""
        if self.parts and self._in_parts:
            states = {name: part.state for name, part in self.parts.items()}
            write_states(self._file(self._rank), {
                **states, _BATCHES: State(_BATCHES, {}, {_BATCHES: sorted(self._in_parts)})})
        self._written = time.monotonic()

    def join(self) -> None:
        """Take the accumulators of all processes into this one's, and leave one file of them."""
        files = sorted((self._folder / STATE).glob("*.safetensors"))
        for file in files:
            held = self._in_file(file)
            if held <= self._in_parts:  # joined before, and killed before the file went
                continue
            if held & self._in_parts:
                raise ModelError(f"{file} holds batches that another file of the run holds too",
                                 remedy="delete the folder to start over")
            for name, state in read_states(file).items():
                if name == _BATCHES:
                    continue
                before = type(self.parts[name]).from_state(state)
                if self._in_parts:
                    self.parts[name].merge(before)
                else:
                    self.parts[name] = before
            self._in_parts |= held
        if files:
            self.save()
        for file in files:
            if file != self._file(0):
                file.unlink()

    def answers(self) -> Answers:
        """Every image's answer, as they lie on disk now."""
        return Answers(self._folder)

    def _check(self, inputs: Inputs) -> None:
        file = self._folder / PLAN
        if file.is_file():
            try:
                before = untrusted.mapping_of(file)
            except OSError as error:
                raise ModelError(f"{file} is damaged: {error}", remedy="delete the folder to start over") from error
            inputs.check(self._folder, before)
        write_json(file, inputs.record)

    def _in_file(self, file: Path) -> set[int]:
        return set(read_states(file)[_BATCHES].values[_BATCHES]) if file.is_file() else set()

    def _file(self, rank: int) -> Path:
        return self._folder / STATE / f"{rank}.safetensors"
