"""The embedded world's two judges as entries of the registry of detectors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

from torch import Tensor

from expunge.config import knob
from expunge.detectors.base import Detector, DetectorSettings, Need, Reading
from expunge.metrics.imagenet_judge import ImageNetJudge
from expunge.metrics.judge import EmojiJudge
from expunge.tiny.emoji import WEIGHTS


class EmojiJudgeDetector(DetectorSettings):
    """The judge that was trained on the drawings: objects, styles, backgrounds."""

    kind: ClassVar[str] = "emoji-judge"
    needs: ClassVar[tuple[Need, ...]] = ()

    question: Literal["object", "style", "background"] = knob("object", "which of its questions is asked")

    def open(self, files: Mapping[str, Path]) -> Detector:
        """See `DetectorSettings.open`."""
        return JudgeDetector(EmojiJudge(WEIGHTS), self.question, self.prefix)


class ImageNetJudgeDetector(DetectorSettings):
    """Linear heads on features of ImageNet, which nobody trained on the drawings."""

    kind: ClassVar[str] = "imagenet-judge"
    extra: ClassVar[str] = "second"
    needs: ClassVar[tuple[Need, ...]] = ()

    question: Literal["object", "style"] = knob("object", "which of its questions is asked")

    def open(self, files: Mapping[str, Path]) -> Detector:
        """See `DetectorSettings.open`."""
        return JudgeDetector(ImageNetJudge(WEIGHTS), self.question, self.prefix)


class JudgeDetector:
    """One question of a judge; where it abstains, so does the reading. Attributes: see `Detector`."""

    floor, finds_boxes = 0.0, False

    def __init__(self, judge: EmojiJudge | ImageNetJudge, question: str, prefix: str = "") -> None:
        self.name, self.labels = f"{prefix}{judge.name}", tuple(judge.questions[question])
        self._judge, self._question = judge, question

    def __call__(self, images: Tensor) -> list[Reading]:
        """One reading per image."""
        if not len(images):
            return []
        least = self._judge.card["threshold"][self._question]
        rows = self._judge.probabilities(images)[self._question]
        return [Reading(dict(zip(self.labels, row, strict=True)),
                        note="" if round(max(row), 4) >= least else "surest label below its threshold")
                for row in rows.tolist()]
