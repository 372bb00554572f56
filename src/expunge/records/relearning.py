"""How fast fine-tuning brings a concept back, beside the pace of what no model ever knew."""

from __future__ import annotations

from typing import Any, Literal

from expunge.records.base import Record
from expunge.records.card import PatchCard
from expunge.records.pictures import Sampler
from expunge.records.request import Request
from expunge.records.score import Score

Taught = Literal["edited", "unknown", "original"]
"""Which curve it is: the concept to the edited model; to the same model a thing that no model ever knew; the concept to
the original model."""


class Look(Record):
    """Found rate after `steps` steps of training; 0 is the model before training."""

    steps: int
    found: Score


class RelearningCurve(Record):
    """One thing, taught to one model.

    Attributes:
        of: which curve it is; subject: what was taught ("church", "blorp").
        pictures, whose: how many images it was taught with, and whose they are.
        judge: name and weights' hash of the detector; detector: how often it is right, where it was learned on the
            spot.
        looks: by rising steps.
        seconds: wall time.
    """

    of: Taught
    subject: str
    pictures: int
    whose: str
    judge: str
    detector: Score | None = None
    looks: tuple[Look, ...] = ()
    seconds: float = 0.0

    def steps_to(self, rate: float, end: Literal["value", "low", "high"] = "value") -> int | None:
        """Steps at the first look at which the found rate (or that end of its interval) is at least `rate`; None if it
        never is."""
        for look in self.looks:
            value: float | None = getattr(look.found, end)
            if value is not None and value >= rate:  # NaN never is
                return look.steps
        return None


class Relearning(Record):
    """Relearning curves of one concept; sentence and chart need nothing else.

    Attributes:
        card: the patch's card; None for the unedited model (then there is no "edited" curve).
        request: the concept.
        model, model_hash, patch_hash, sampler: what was taught, and how images were drawn.
        drawn: what else decided images (`models.model.drawn_by`); empty in records of older versions.
        given: plain sentences: how many prompts the user gave, how many were used, and why not the others.
        curves: in the order in which they were made.
        enough: found rate from which a thing counts as drawn.
        no_unknown: why there is no curve of an unknown thing; "" where there is one.
        warnings: those about the curves. settings, versions, machine, seconds, created: as in `Evaluation`.
    """

    format: Literal[1] = 1
    card: PatchCard | None = None
    request: Request
    model: str
    model_hash: str
    patch_hash: str = ""
    sampler: Sampler
    drawn: dict[str, str] = {}
    given: tuple[str, ...] = ()
    curves: tuple[RelearningCurve, ...]
    enough: float
    no_unknown: str = ""
    warnings: tuple[str, ...] = ()
    settings: dict[str, Any] = {}
    versions: dict[str, str] = {}
    machine: str = ""
    seconds: float = 0.0
    created: str = ""

    def curve(self, of: Taught) -> RelearningCurve | None:
        """The curve of that kind; None if there is none."""
        return next((curve for curve in self.curves if curve.of == of), None)
