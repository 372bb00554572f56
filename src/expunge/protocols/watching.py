"""The detectors of a protocol at work: each looks at every image, and its rule says what of its answer counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from expunge.detectors.base import Box, Detector, Reading
from expunge.detectors.opening import open_detector
from expunge.detectors.reading import read
from expunge.detectors.rule import Rule
from expunge.errors import UserError
from expunge.protocols.answered import plain
from expunge.protocols.formulas import BY_DOMAIN, MOST
from expunge.protocols.rows import Row
from expunge.protocols.schema import Artefact, Measure, Protocol, Watch
from expunge.records.protocol import DetectorAnswer
from expunge.registry import DETECTORS

_NOWHERE = (0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Watcher:
    """A detector with its rule.

    Attributes:
        watch: what the protocol says of it. detector: the opened one.
    """

    watch: Watch
    detector: Detector

    @property
    def rule(self) -> Rule:
        """What of its answer counts."""
        return self.watch.rule

    def __call__(self, images: Tensor, labels: Sequence[str]) -> list[DetectorAnswer]:
        """One answer per image, float32 (B, 3, H, W) in [0, 1]; `labels` are those of their rows."""
        readings = read(self.detector, images)
        return [self._answer(reading, label) for reading, label in zip(readings, labels, strict=True)]

    def _answer(self, reading: Reading, label: str) -> DetectorAnswer:
        if reading.error or reading.note:
            return DetectorAnswer(error=reading.error, note=reading.note)
        top = sorted(reading.scores, key=lambda name: -reading.scores[name])[:max(MOST, self.rule.k)]
        if top and top[0] in self.watch.abstains:
            return DetectorAnswer(note=top[0])
        wanted = {plain(name) for name in (*top, *self.rule.labels, self.watch.named(label))}
        boxes: dict[str, list[float]] = {}
        for box in reading.boxes:
            boxes.setdefault(box.label, []).append(box.score)
        return DetectorAnswer(shown=self.rule.shows(reading) if self.rule.labels else None,
                              value=self.rule.value(reading) if self.rule.labels else None, top=tuple(top),
                              scores={name: score for name, score in reading.scores.items() if plain(name) in wanted},
                              boxes={name: tuple(scores) for name, scores in boxes.items()})


def reading_of(answer: DetectorAnswer) -> Reading:
    """The reading behind an answer, as far as it was kept: enough for the rule at any threshold."""
    boxes = tuple(Box(label, score, _NOWHERE) for label, scores in answer.boxes.items() for score in scores)
    return Reading(answer.scores, boxes, answer.error, answer.note)


def check_labels(protocol: Protocol, rows: Sequence[Row], eyes: Sequence[Watcher]) -> None:
    """Make sure that detectors could answer with the labels that scores look for: one that a detector lacks would count
    as wrong, or as not found, each time.

    Raises:
        UserError: a label that a detector lacks, where a score looks for it.
    """
    by_name = {eye.watch.name: eye for eye in eyes}
    for score in protocol.scores:
        for name, labels in _looked_for(score, rows):
            eye = by_name[name]
            known = {plain(label) for label in eye.detector.labels}
            missing = sorted(label for label in labels if label and plain(eye.watch.named(label)) not in known)
            if missing:
                raise UserError(f"{name} has no label for the rows' {', '.join(map(repr, missing[:8]))}",
                                accepted=f"labels of {eye.detector.name}: {', '.join(eye.detector.labels[:20])}",
                                remedy="the detector's `labels` in the protocol say what it calls them")
        unknown = [label for label in _counted(score) if label not in by_name[score.detector].detector.labels]
        if unknown:
            detector = by_name[score.detector].detector
            raise UserError(f"{score.name}: {score.detector} has no label {', '.join(map(repr, unknown[:8]))}",
                            accepted=f"labels of {detector.name}: {', '.join(detector.labels[:20])}")


def _looked_for(score: Measure, rows: Sequence[Row]) -> list[tuple[str, set[str]]]:
    """By detectors' names, the rows' labels that a score looks for in their answers."""
    if score.formula in BY_DOMAIN:
        return [(name, {row.groups.get(column, "") for row in rows})
                for column, name in score.options["detectors"].items()]
    return [(score.detector, {row.label for row in rows})] if score.formula in ("accuracy", "mean-probability") else []


def _counted(score: Measure) -> Sequence[str]:
    """The detector's labels that a sum over boxes names."""
    return score.options.get("labels") or () if score.formula == "boxes" else ()


def packaged_files(protocol: Protocol) -> dict[str, Path]:
    """By role, what installed packages bring to the detectors; a package that is not there brings nothing."""
    out: dict[str, Path] = {}
    for watch in protocol.detectors:
        for need, artefact in watch.artefacts.items():
            with suppress(UserError):  # the role is missing then, and told with all that is
                if artefact.packaged and (file := DETECTORS.get(watch.detector).packaged(need)) is not None:
                    out[artefact.role] = file
    return out


def with_stand_ins(protocol: Protocol, words: Sequence[str]) -> Protocol:
    """The protocol with image classifiers in the place of some detectors, of words DETECTOR=FOLDER.

    Raises:
        UserError: another form, a detector that the protocol does not have, or no such folder.
    """
    stand_ins = {}
    for word in words:
        name, found, folder = word.partition("=")
        if not found or name not in {watch.name for watch in protocol.detectors} or not Path(folder).is_dir():
            raise UserError(f"the stand-in {word!r}", accepted="DETECTOR=FOLDER, with a detector of the protocol "
                            f"({', '.join(watch.name for watch in protocol.detectors) or 'it has none'})")
        stand_ins[name] = folder
    return protocol.model_copy(update={"detectors": tuple(
        watch if watch.name not in stand_ins else watch.model_copy(update={
            "detector": "image-classification", "options": {"purpose": "test-only"},
            "artefacts": {"folder": Artefact(role=f"stand-in-{watch.name}", what="a stand-in for tests", test_only=True,
                                            place=stand_ins[watch.name])}})
        for watch in protocol.detectors)}) if stand_ins else protocol


def watchers(watches: Sequence[Watch], files: Mapping[str, Path]) -> list[Watcher]:
    """The protocol's detectors, each with the files of its own roles.

    Raises:
        UserError: an unknown detector, an extra that is not installed, or a rule with labels that it does not know.
        ConfigError: options that it does not take.
    """
    made = []
    for watch in watches:
        own = {need: files[artefact.role] for need, artefact in watch.artefacts.items()}
        detector = open_detector(watch.detector, watch.options, own)
        if watch.rule.labels:
            watch.rule.check(detector)
        unknown = [label for label in (*watch.labels.values(), *watch.abstains) if label not in detector.labels]
        if unknown:
            raise UserError(f"{watch.name} has no label {', '.join(map(repr, unknown))}",
                            accepted=f"labels of {detector.name}: {', '.join(detector.labels[:20])}")
        made.append(Watcher(watch, detector))
    return made
