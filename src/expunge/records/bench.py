"""What a bench found: a record per edit, and what edits of one method add up to over their seeds."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, TypeAdapter, model_validator
from typing_extensions import Self

from expunge.errors import UnknownName
from expunge.records.base import Record
from expunge.records.score import Score, Scored

Items = dict[str, dict[str, float]]
"""Values by prompt, then by the image's seed as text."""


FEW = 6
"""Prompts below which a bootstrap over them is too rough to decide anything."""


class EditCost(Record):
    """What an edit took.

    Attributes:
        seconds: wall time of the edit, all sessions of an interrupted one together.
        processor: processor time of the edit in seconds, all threads together: what other work on the machine does not
            lengthen. None on an accelerator, and for an edit that was interrupted.
        steps: optimisation steps.
        unet_frozen, unet_trained: samples through the denoiser without and with gradient, as they were counted; None
            for an edit that was interrupted.
        changed: numbers in the tensors that the edit changed, and `of`: in UNet and text encoder together.
        patch_bytes: size of the patch's file.
        peak_memory: most bytes that the process held while it edited (the accelerator's, if there is one); None where
            that is not known.
    """

    seconds: float = 0.0
    processor: float | None = None
    steps: int = 0
    unet_frozen: int | None = None
    unet_trained: int | None = None
    changed: int = 0
    of: int = 0
    patch_bytes: int = 0
    peak_memory: int | None = None

    @property
    def time(self) -> float:
        """Processor time where it is known, else wall time; seconds."""
        return self.seconds if self.processor is None else self.processor


class Edit(Scored, Record):
    """One cell of a bench: a concept, taken out by a method with one seed, attacked and measured.

    Attributes:
        method: the method's label in the bench, and `preset`: its registered name.
        concept: the label of what was taken out; seed: of the edit.
        folder: where the patch, the attacks and the evaluation lie, relative to the bench's folder.
        scores: the scores that the bench compares, without their items.
        items: by score, what each image or item counted for; what is pooled and paired over edits.
        cost: what the edit took; None if it failed before it had a patch.
        attacks: the attacks that were made, in order.
        failed_at: "erase", "attack" or "evaluate" if the cell broke off there; "" if it is whole. failure: why.
        warnings: those of evaluations and attacks.
        seconds: wall time by stage, of the session that finished it.
        under: by stage, the settings that decide the results; empty in records of before 0.2.
        taken_from: the record that the cell was taken from, if another bench made it; its folder is that bench's.
        patch_hash, versions, machine, created: as in the card.
    """

    method: str
    preset: str
    concept: str
    seed: int
    folder: str = ""
    scores: tuple[Score, ...] = ()
    items: dict[str, Items] = {}
    cost: EditCost | None = None
    attacks: tuple[str, ...] = ()
    failed_at: Literal["", "erase", "attack", "evaluate"] = ""
    failure: str = ""
    warnings: tuple[str, ...] = ()
    seconds: dict[str, float] = {}
    under: dict[str, dict[str, Any]] = {}
    taken_from: str = ""
    patch_hash: str = ""
    versions: dict[str, str] = {}
    machine: str = ""
    created: str = ""


class Pooled(Score):
    """A score over several edits of one method.

    Attributes:
        by_edit: the score of each edit alone, by "concept, seed".
        cluster_low, cluster_high: ends of a 95% interval that draws edits and prompts anew, not single images; None
            where there is none. Items of one prompt or one edit resemble one another, so `low` and `high` of a rate
            (Wilson's, prompts of each edit as units) are too close together; this one is too close at 0 and 1.
        prompts, edits: how many of each are in it.
    """

    by_edit: dict[str, float] = {}
    cluster_low: float | None = None
    cluster_high: float | None = None
    prompts: int = 0
    edits: int = 0


class Summary(Scored, Record):
    """A method on a concept, or on all concepts together, over the seeds of its edits.

    Attributes:
        method, preset: as in `Edit`. concept: its label; "" for all concepts together.
        edits: how many are in it; failed: how many broke off; missing: how many were not made yet.
        scores: pooled scores.
        cost: means over the edits; of the memory the highest.
    """

    method: str
    preset: str
    concept: str = ""
    edits: int = 0
    failed: int = 0
    missing: int = 0
    scores: tuple[Pooled, ...] = ()
    cost: EditCost | None = None


class Difference(Record):
    """A score of one method minus the same score of another, on the items that both have.

    Attributes:
        score: name of the score. method, other: labels; the difference is method minus other.
        concept: its label; "" for all concepts together.
        value, low, high, interval, note: as in `Score`.
        n: items on both sides; prompts, edits: how many of each they come from.
        left_out: items that only one side has.
        higher_is_better: as in `Score`.
    """

    score: str
    title: str
    method: str
    other: str
    concept: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    interval: str = ""
    n: int = 0
    prompts: int = 0
    edits: int = 0
    left_out: int = 0
    higher_is_better: bool | None = None
    note: str = ""

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out zero; never with so few prompts that the interval means little, nor where it
        is a point."""
        return (self.prompts >= FEW and self.low is not None and self.high is not None and math.isfinite(self.low)
                and math.isfinite(self.high) and self.low != self.high and (self.low > 0 or self.high < 0))


class CheckedCell(Record):
    """A cell beside the same cell made again.

    Attributes:
        name: which one; versions: of the libraries that made it first.
        patch_same: whether the edits are equal bit for bit.
        scores: how many were compared; equal: how many are the same number.
        apart: those that do not agree, with both values.
    """

    name: str
    versions: dict[str, str] = {}
    patch_same: bool = False
    scores: int = 0
    equal: int = 0
    apart: tuple[str, ...] = ()


class BenchCheck(Record):
    """Some cells of a bench made again.

    Attributes:
        cells: those that were chosen, and seed: of the choice.
        versions, machine, created: of the check.
    """

    cells: tuple[CheckedCell, ...]
    seed: int = 0
    versions: dict[str, str] = {}
    machine: str = ""
    created: str = ""


class Row(BaseModel):
    """A method, as the bench's file has it; what else it says there is not looked at."""

    method: str = ""
    label: str = ""
    settings: dict[str, Any] = {}

    @property
    def title(self) -> str:
        """What tables call it."""
        return self.label or self.method


class Column(BaseModel):
    """The names of a concept, as the bench's file has them; what else it says there is not looked at."""

    concept: Annotated[tuple[str, ...], BeforeValidator(lambda its: (its,) if isinstance(its, str) else its)] = ()


_ROWS, _COLUMNS = TypeAdapter(tuple[Row, ...]), TypeAdapter(tuple[Column, ...])


class BenchResult(Record):
    """All that a bench found; table, plot and report need nothing else.

    Attributes:
        model, model_hash: what was edited.
        settings: the bench's file, resolved.
        methods, concepts: labels, in the order of the file.
        edits: one per cell that was made or failed.
        summaries: per method and concept, then per method over all concepts.
        differences: the comparisons that the file asks for.
        missing: cells that were not made yet.
        unknown: settings that did not exist when cells were made, each with the value that is taken for it now.
        check: some cells made again, by whichever version did so last; None if nobody did.
        versions, machine, created: of the gathering.
    """

    format: Literal[1] = 1
    model: str
    model_hash: str
    settings: dict[str, Any] = {}
    methods: tuple[str, ...] = ()
    concepts: tuple[str, ...] = ()
    edits: tuple[Edit, ...] = ()
    summaries: tuple[Summary, ...] = ()
    differences: tuple[Difference, ...] = ()
    missing: int = 0
    unknown: tuple[str, ...] = ()
    check: BenchCheck | None = None
    versions: dict[str, str] = {}
    machine: str = ""
    created: str = ""

    @model_validator(mode="after")
    def _known(self) -> Self:
        _ = self.rows, self.columns
        return self

    @property
    def rows(self) -> tuple[Row, ...]:
        """The methods, as its settings have them."""
        return _ROWS.validate_python(self.settings.get("methods", ()))

    @property
    def columns(self) -> tuple[Column, ...]:
        """The concepts, as its settings have them."""
        return _COLUMNS.validate_python(self.settings.get("concepts", ()))

    def summary(self, method: str, concept: str = "") -> Summary:
        """The summary of a method (label) on a concept; "" means over all concepts. UnknownName: there is none."""
        for item in self.summaries:
            if (item.method, item.concept) == (method, concept):
                return item
        there = dict.fromkeys((item.method, item.concept) for item in self.summaries)
        raise UnknownName(f"no summary of {method!r} on {concept!r}", accepted=", ".join(map(repr, there)))
