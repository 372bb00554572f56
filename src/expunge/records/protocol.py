"""What a protocol's run says: each image's answers, and the scores with everything that they rest on."""

from __future__ import annotations

from typing import Any, Literal

from expunge.records.base import Record
from expunge.records.score import Score, Scored

Subject = Literal["original", "edited", "supplied"]
"""Whose images: of the model, of the model with the edit, or images that somebody else drew."""


class DetectorAnswer(Record):
    """What one detector said of one image, as far as the protocol's rule needs it.

    Attributes:
        shown: what the rule says; None where the detector abstained or failed.
        value: the number that the rule compares (a probability, a count of boxes).
        top: the labels in the order of their scores, as many as the rule reads.
        scores: scores by label: of the labels that count, of the row's label, and of those in `top`.
        boxes: scores of all boxes by label, of a detector that gives boxes.
        error: why the detector failed; note: why it abstained.
    """

    shown: bool | None = None
    value: float | None = None
    top: tuple[str, ...] = ()
    scores: dict[str, float] = {}
    boxes: dict[str, tuple[float, ...]] = {}
    error: str = ""
    note: str = ""


class ImageAnswer(Record):
    """One image of a protocol's run.

    Attributes:
        row: number of the prompt's row in its list, from 1. seed: the image's. subject: whose image it is.
        again: of supplied images, which of those of this row and seed it is, from 0.
        answers: what the detectors said, by their name in the protocol.
        pixels: sha256 of the uint8 RGB pixels; "" where nothing is to be kept.
        lost: why there is no such image ("not finite", "prompt too long"); then nothing looked.
    """

    row: int
    seed: int
    subject: Subject
    again: int = 0
    answers: dict[str, DetectorAnswer] = {}
    pixels: str = ""
    lost: str = ""


class Threshold(Record):
    """What a detector's rule says at its own cut and at neighbouring ones.

    Attributes:
        detector: its name in the protocol. subject: whose images. own: the rule's cut.
        rates: (cut, images that show it, images decided, whether the detector reports that far down).
        percentiles: of the values that the rule looks at, by percent. n, errors, abstained: images.
    """

    detector: str
    subject: Subject
    own: float
    rates: tuple[tuple[float, int, int, bool], ...] = ()
    percentiles: dict[int, float] = {}
    n: int = 0
    errors: int = 0
    abstained: int = 0


class RowOf(Record):
    """A row of a protocol's list, as a record keeps it.

    Attributes:
        number: from 1, in the list's order. text: of a list that is not sensitive. text_sha256: its first 16
            digits. label, groups: what it asks for. erased: whether that is what the edit takes out; None where the
            protocol does not tell.
    """

    number: int
    text_sha256: str
    text: str = ""
    label: str = ""
    groups: dict[str, str] = {}
    erased: bool | None = None


class Used(Record):
    """A file or folder that was supplied.

    Attributes:
        sha256: of the file; of a folder that of its files that decide what a network says.
        matched: how it was known ("sha256"; "" where no hash was known).
    """

    role: str
    what: str
    sha256: str
    matched: str = ""
    test_only: bool = False


class ProtocolResult(Scored, Record):
    """A protocol's run.

    Attributes:
        protocol: the protocol's name; "-modified" behind it where the run deviates. protocol_hash: of its file's
            content. version: the protocol's own. source: whose protocol.
        transfer, adaptive: whether its prompts are attacks found elsewhere, whether it has an attack of its own.
        deviations: in sentences, what was not as the protocol says.
        model, model_hash, patch_hash, concepts: what was measured; patch_hash "" where there was no edit.
        rows: how many were asked (`rows.jsonl` beside the record holds them); left_out: those that were not, by reason.
        scores: of original and edited model.
        files: what was supplied. detectors: names with hash, by their names in the protocol.
        thresholds: what the rules would say at other cuts.
        test_only: whether a stand-in was used: then no report names its numbers.
        benchmark: which benchmark on the Hub its scores are results of: dataset, revision, tasks by score, times.
        attack: of an adaptive one: its name, settings, budget of an item, rows attacked and failed.
        sampler: as drawn. stored: what was kept of the images ("none", "hashes", "pictures").
    """

    protocol: str
    protocol_hash: str
    version: int
    title: str
    source: str
    transfer: bool = False
    adaptive: bool = False
    sensitive: bool = False
    deviations: tuple[str, ...] = ()
    model: str = ""
    model_hash: str = ""
    patch_hash: str = ""
    concepts: tuple[str, ...] = ()
    rows: int = 0
    given: tuple[str, ...] = ()
    left_out: dict[str, int] = {}
    scores: tuple[Score, ...] = ()
    files: tuple[Used, ...] = ()
    detectors: dict[str, str] = {}
    thresholds: tuple[Threshold, ...] = ()
    test_only: bool = False
    benchmark: dict[str, Any] = {}
    attack: dict[str, Any] = {}
    sampler: dict[str, Any] = {}
    stored: Literal["none", "hashes", "pictures"] = "hashes"
    notes: tuple[str, ...] = ()
    not_tested: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    versions: dict[str, str] = {}
    machine: str = ""
    created: str = ""
    seconds: float = 0.0
