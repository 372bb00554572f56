"""What a detector is: images in, a reading of each out; and what an entry of the registry says before it is opened.

A reading is what was measured. What of it counts as a yes is a rule (`detectors.rule`), which is data: a protocol file
names it, and one reading answers many rules. Images are float32 (B, 3, H, W) in [0, 1], RGB.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from expunge.config import Settings, knob
from expunge.detectors.rule import Rule
from expunge.files import file_digest

if TYPE_CHECKING:
    from torch import Tensor

DECIDING = (".safetensors", ".json", ".txt", ".model")
"""Endings of a folder's files that decide what its network says."""


@dataclass(frozen=True)
class Box:
    """A place where a detector saw something.

    Attributes:
        label: what; score: how sure, in [0, 1].
        corners: left, top, right, bottom, in pixels of the image that was given.
    """

    label: str
    score: float
    corners: tuple[float, float, float, float]


@dataclass(frozen=True)
class Reading:
    """What a detector measured on one image: not yet a yes or a no.

    Attributes:
        scores: score by label: a probability, or of a detector with boxes the best box of that label (none: absent).
        boxes: all that it saw, the surest first.
        error: why it failed; "" when it worked. A failure is never an answer.
        note: why it abstains ("no face"); "" when it does not. Abstentions are counted by themselves.
    """

    scores: Mapping[str, float] = field(default_factory=dict)
    boxes: tuple[Box, ...] = ()
    error: str = ""
    note: str = ""


class Detector(Protocol):
    """An opened detector.

    Attributes:
        name: "nudenet@c15d8273": name and first 8 of the hash of all that decides its readings.
        labels: every label that a reading may have.
        floor: least score that it reports; below it a rate cannot be told from that at the floor.
        finds_boxes: whether its readings have boxes.
    """

    @property
    def name(self) -> str: ...

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def floor(self) -> float: ...

    @property
    def finds_boxes(self) -> bool: ...

    def __call__(self, images: Tensor) -> list[Reading]:
        """One reading per image of float32 (B, 3, H, W) in [0, 1]. May raise: `detectors.reading.read` counts that."""
        ...


@dataclass(frozen=True)
class Need:
    """A file or folder that the user supplies.

    Attributes:
        role: how it is called in a protocol and on the command line ("weights").
        what: in words. published: where it can be had. licence: as its authors declare it; "" where none is known.
        optional: whether the detector has one of its own (from an installed package).
        folder: whether it is a folder of files.
    """

    role: str
    what: str
    published: str = ""
    licence: str = ""
    optional: bool = False
    folder: bool = False


class DetectorSettings(Settings, ABC):
    """An entry of the registry: the settings of a detector, which open it.

    Attributes:
        needs: what the user supplies, by role. extra: the extra of expunge that it needs; "" for none.
        licence: of what it runs, where that asks for a word. rules: usual rules by name, each with its source in the
            docs; none is taken unasked.
        kind: the name that it is registered under.
    """

    kind: ClassVar[str] = ""
    needs: ClassVar[tuple[Need, ...]] = ()
    extra: ClassVar[str] = ""
    licence: ClassVar[str] = ""
    rules: ClassVar[Mapping[str, Rule]] = {}

    purpose: Literal["", "test-only"] = knob(
        "", "test-only: the weights are nobody's; the detector's name says so, and reports refuse it")

    @abstractmethod
    def open(self, files: Mapping[str, Path]) -> Detector:
        """The detector, with the files of its needs by role (`detectors.opening` has checked that they are there).

        Raises:
            UserError: what it needs is not installed.
            ModelError: a file cannot be read, or is of something else.
        """

    @classmethod
    def packaged(cls, role: str) -> Path | None:
        """The file that an installed package brings for an optional need; None where none does.

        Raises:
            UserError: the package is not installed.
        """
        return None

    @property
    def prefix(self) -> str:
        """What the name of the detector begins with: "test-only/" where its weights are nobody's."""
        return f"{self.purpose}/" if self.purpose else ""

    def named(self, files: Mapping[str, Path], **more: Any) -> str:
        """The name of the detector that these settings make of these files: it tells apart all that decide.

        Args:
            more: what else decides, such as a version of our own code.
        """
        decides = {"settings": self.model_dump(mode="json", exclude={"purpose"}), **more,
                   "files": {role: path_digest(path) for role, path in sorted(files.items())}}
        digest = hashlib.sha256(json.dumps([self.kind, decides], sort_keys=True).encode()).hexdigest()
        return f"{self.prefix}{self.kind}@{digest[:8]}"


def path_digest(path: Path) -> str:
    """sha256 of a file; of a folder that of all its files that decide what a network says, with their names.

    A folder's README, pictures and copies of its weights in other formats do not count, nor do hidden files, which a
    download leaves: two copies of one network have one hash. A folder in which nothing decides counts whole.
    """
    if path.is_file():
        return file_digest(path)
    files = sorted(file for file in path.rglob("*")
                   if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts))
    deciding = [file for file in files if file.suffix in DECIDING] or files
    listed = [[file.relative_to(path).as_posix(), file_digest(file)] for file in deciding]
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()
