"""The answers of a run as they lie on disk, a line an image; one at a time is in memory.

An image's answer takes kilobytes (boxes, scores by label), so a run of many images keeps only where each line begins.
Scores go over the lines as often as they need.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from expunge.errors import ModelError
from expunge.files import append_lines, whole_lines
from expunge.records.protocol import ImageAnswer, Subject
from expunge.sealed import DamagedLine, mend_lines, sealed_line, unsealed_line

ANSWERS = "answers"

ImageKey = tuple[int, int, Subject, int]
"""Row, seed and subject of an image, and which of several it is (`ImageAnswer.again`)."""


def key_of(image: ImageAnswer) -> ImageKey:
    """What an image is known by."""
    return image.row, image.seed, image.subject, image.again


def add_answers(folder: Path, rank: int, batch: int, answers: Iterable[ImageAnswer]) -> None:
    """Write the answers of a batch behind those that this process has written."""
    append_lines(folder / ANSWERS / f"{rank}.jsonl", [
        sealed_line({"batch": batch, "image": one.model_dump(mode="json", exclude_defaults=True)}) for one in answers])


def mend_answers(folder: Path) -> None:
    """Leave out what is damaged among a run's answers, so that it is made again. StorageError: as `mend_lines`."""
    for file in _files(folder):
        mend_lines(file)


class Answers:
    """All answers of a run; of an image that was looked at twice the later one counts."""

    def __init__(self, *folders: Path) -> None:
        """Look where the lines of each image are; answers that come later are not seen.

        Args:
            folders: of the run; behind it that of the original, where runs share it.

        Raises:
            ModelError: a line is damaged.
        """
        self._files = [file for folder in folders for file in _files(folder)]
        self._places: dict[ImageKey, tuple[int, int]] = {}
        for number, file in enumerate(self._files):
            for start, line in whole_lines(file):
                one = _parsed(file, start, line)
                self._places[key_of(one)] = number, start

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: ImageKey) -> bool:
        return key in self._places

    def __iter__(self) -> Iterator[ImageAnswer]:
        """Every image's answer, in the order in which the images were first looked at."""
        return self.read(self._places)

    def read(self, keys: Iterable[ImageKey]) -> Iterator[ImageAnswer]:
        """The answers of these images in this order; those that were not looked at are passed over."""
        opened = [file.open("rb") for file in self._files]
        try:
            for key in keys:
                if key in self._places:
                    number, start = self._places[key]
                    opened[number].seek(start)
                    yield _parsed(self._files[number], start, opened[number].readline())
        finally:
            for file in opened:
                file.close()

    def of(self, places: Sequence[tuple[int, int]], subject: Subject) -> Ordered:
        """One subject's answers in the order of (row, seed), all of each."""
        return Ordered(self, places, subject)


@dataclass(frozen=True)
class Ordered:
    """Answers of one subject in the order of `places`: each pass reads them again."""

    answers: Answers
    places: Sequence[tuple[int, int]]
    subject: Subject

    def __iter__(self) -> Iterator[ImageAnswer]:
        return self.answers.read(self._keys())

    def _keys(self) -> Iterator[ImageKey]:
        for row, seed in self.places:
            again = 0
            yield row, seed, self.subject, again
            while (row, seed, self.subject, again := again + 1) in self.answers:
                yield row, seed, self.subject, again


def _files(folder: Path) -> list[Path]:
    return sorted((folder / ANSWERS).glob("*.jsonl"))


def _parsed(file: Path, start: int, line: bytes) -> ImageAnswer:
    try:
        return ImageAnswer.model_validate(unsealed_line(line)["image"])
    except (ValueError, KeyError, TypeError) as error:
        remedy = "run the protocol there again: what is damaged is made again" if isinstance(error, DamagedLine) else \
            "delete the folder to start over"
        raise ModelError(f"{file}, the line at byte {start}, is damaged: {error}", remedy=remedy) from error
