"""Where records of a kind lie on disk, and the one way to read them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from expunge import untrusted
from expunge.errors import UserError
from expunge.records.attacks import SuiteResult
from expunge.records.base import Record
from expunge.records.bench import BenchResult
from expunge.records.case import Rechecks
from expunge.records.evaluation import Evaluation
from expunge.records.labels import Labels
from expunge.records.protocol import ProtocolResult
from expunge.records.relearning import Relearning
from expunge.records.sequence import SequenceResult

Kind = TypeVar("Kind", bound=Record)


@dataclass(frozen=True)
class Stored(Generic[Kind]):
    """A kind of record, by the file that holds one in a folder of its own.

    Attributes:
        record: its class. name: the file's name. what: what a reader calls it ("evaluation").
        verb: the command that writes it, beside a patch into the folder `verb_folder`. of: what that command takes.
    """

    record: type[Kind]
    name: str
    what: str
    verb: str
    verb_folder: str
    of: str = "PATCH"

    def at(self, path: Path) -> Path | None:
        """The file at `path` (its folder, or the file itself); None if there is none."""
        inside = path if path.name == self.name else path / self.name
        return inside if inside.is_file() else None

    def read(self, path: Path) -> Kind:
        """The record at `path`.

        Raises:
            UserError: there is none, or it is damaged.
        """
        file = self.at(path)
        if file is None:
            below = self.at(path / self.verb_folder)
            raise UserError(f"no {self.what} at {path}", accepted=f"a folder with {self.name}",
                            remedy=f"there is one at {below.parent}" if below
                            else f"make one with `expunge {self.verb} {self.of}`")
        try:
            return self.record.read(untrusted.text(file))
        except (OSError, ValueError) as error:
            raise UserError(f"{file} cannot be read: {error}", accepted=f"a record that `expunge {self.verb}` wrote",
                            remedy=f"{self.verb} again") from error


LEDGER = "ledger.json"
"""Where a sequence keeps its requests, in its folder."""

EVALUATIONS = Stored(Evaluation, "evaluation.json", "evaluation", "evaluate", "evaluation")
SUITE_RESULTS = Stored(SuiteResult, "attack.json", "attacks", "attack", "attack")
SEQUENCES = Stored(SequenceResult, "sequence.json", "sequence", "sequence", "sequence", "FILE")
BENCHES = Stored(BenchResult, "bench.json", "bench", "bench", "bench", "FILE")
PROTOCOLS = Stored(ProtocolResult, "protocol.json", "protocol's result", "evaluate --protocol NAME", "protocol")
RELEARNINGS = Stored(Relearning, "relearning.json", "relearning curves", "relearn", "attack")
CASES = Stored(Rechecks, "cases.json", "cases", "attack PATCH --case", "attack", "FILE")
LABELS = Stored(Labels, "labels.json", "people's labels", "ui", "evaluation", "FOLDER")
