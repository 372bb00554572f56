"""Sequential unlearning: the ledger of what was done about them, and what a sequence of edits came to."""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, TypeAdapter, model_validator
from typing_extensions import Self

from expunge.records.base import Record
from expunge.records.origin import Origin
from expunge.records.score import Score, Scored

HALF = 0.5
"""Share of the original's images that must show a concept before anything is said of its erasure."""


def surely_drawn(score: Score | None) -> bool:
    """Whether the original surely draws a concept: the interval of its found rate lies above one half.

    Three of three images are not enough for that, and neither are seven of eleven.
    """
    return score is not None and bool(score.n) and score.low is not None and score.low > HALF


class Entry(Record):
    """A line of the ledger. Each carries the digest of the one before, so that no line can be changed unseen.

    Attributes:
        kind: "erased": a request was met; "withdrawn": one was taken back (then the later ones are met again, in
            entries of their own).
        number: the request's number in the file, from 1.
        concept, anchor, keep, who, when, evidence: as in the file; of a withdrawal who, when and (as evidence) why.
        asked: digest of the request as the file has it.
        method, settings, strategy: what met it, resolved; seed: of the edit. kept: names of all that had to stay then,
            by the sequence's wish or by that of a request so far.
        state: key of the state that came out: of the model, of every request so far and of how each was met.
        patch_hash: of the state's patch, which holds all requests so far; memory_hash: of the points that it left
            behind, "" where none are.
        seconds, versions, machine: of the edit.
        made: when the entry was written.
        previous: digest of the entry before; "" for the first.
    """

    kind: Literal["erased", "withdrawn"] = "erased"
    number: int
    concept: tuple[str, ...]
    anchor: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    who: str = ""
    when: datetime.date | None = None
    evidence: str = ""
    asked: str
    method: str = ""
    settings: dict[str, Any] = {}
    strategy: dict[str, Any] = {}
    seed: int = 0
    kept: tuple[str, ...] = ()
    state: str = ""
    patch_hash: str = ""
    memory_hash: str = ""
    seconds: float = 0.0
    versions: dict[str, str] = {}
    machine: str = ""
    made: str = ""
    previous: str = ""

    @property
    def origin(self) -> Origin:
        """Where the request comes from."""
        return Origin(who=self.who, when=self.when, evidence=self.evidence)


class Ledger(Record):
    """What was asked and what was done about it, in order; nothing is ever taken out.

    Attributes:
        model, model_hash, process, parts: the original, as in a patch's card; parts "" in ledgers of older versions.
        entries: the lines. seal: digest of the last one, so that none can be cut off unseen.
    """

    format: Literal[1] = 1
    model: str
    model_hash: str
    process: str
    parts: str = ""
    entries: tuple[Entry, ...] = ()
    seal: str = ""


class StateScores(Scored, Record):
    """The model after one of the requests.

    Attributes:
        number: of the request in the file; concept: its name.
        scores: found/<concept> of every concept of the sequence (those to come included), retention, integrity towards
            the original, without their items.
        items: found/<concept> by "prompt | seed": 1 or 0.
        drift: |theta_k - theta_0| / |theta_0| over UNet and text encoder.
        seconds: wall time of the edit; processor: its processor time, None where it is not known.
        versions: of the libraries that measured the state; of the edit where it was not measured.
        patch_hash: of the patch that holds all requests so far; folder: where it lies, relative to the sequence's.
        warnings: those of the evaluation.
    """

    number: int
    concept: str
    scores: tuple[Score, ...] = ()
    items: dict[str, dict[str, float]] = {}
    drift: float = 0.0
    seconds: float = 0.0
    processor: float | None = None
    versions: dict[str, str] = {}
    patch_hash: str = ""
    folder: str = ""
    warnings: tuple[str, ...] = ()


class TakenBack(BaseModel):
    """Who took a request back, when and why; as the file of requests has it."""

    who: str = ""
    when: str | None = None
    why: str = ""


class Asked(BaseModel):
    """One request, as the file of requests has it; what else it says there is not looked at."""

    concept: Annotated[tuple[str, ...], BeforeValidator(lambda its: (its,) if isinstance(its, str) else its)] = Field(
        min_length=1)
    anchor: tuple[str, ...] = ()
    who: str = ""
    when: str | None = None
    evidence: str = ""
    method: str = ""
    withdrawn: TakenBack | None = None


_ASKED = TypeAdapter(tuple[Asked, ...])


class SequenceResult(Scored, Record):
    """All that a sequence came to; tables and report need nothing else.

    Attributes:
        model, model_hash: the original.
        strategy, method, seed: as in the file. settings: the file, resolved.
        concepts: what was to go, in order.
        before: found/<concept> of the original.
        states: the model after each request, those that were withdrawn left out.
        scores: over the sequence: gone/..., revival/..., of the concepts that the original surely draws.
        withdrawn: names of the concepts whose requests were taken back.
        versions, machine, created: of the gathering.
    """

    format: Literal[1] = 1
    model: str
    model_hash: str
    strategy: str
    method: str
    seed: int = 0
    settings: dict[str, Any] = {}
    concepts: tuple[str, ...] = ()
    before: tuple[Score, ...] = ()
    states: tuple[StateScores, ...] = ()
    scores: tuple[Score, ...] = ()
    withdrawn: tuple[str, ...] = ()
    versions: dict[str, str] = {}
    machine: str = ""
    created: str = ""

    @model_validator(mode="after")
    def _known(self) -> Self:
        odd = [state.number for state in self.states if not 1 <= state.number <= len(self.requests)]
        if odd:
            raise ValueError(f"a state of request {odd[0]}, and {len(self.requests)} requests in its settings")
        if not all(isinstance(self.settings.get(key) or {}, dict) for key in ("holding", "evaluation")):
            raise ValueError("settings that are none")
        return self

    @property
    def requests(self) -> tuple[Asked, ...]:
        """What was asked, in order, as its settings have it."""
        return _ASKED.validate_python(self.settings.get("requests", ()))

    @property
    def undrawn(self) -> dict[str, Score | None]:
        """Concepts that the original does not surely draw, with its found rate (None: not measured).

        What is not found of them after an edit need not have been erased by it.
        """
        known = {score.name.removeprefix("original/found/"): score for score in self.before}
        return {name: known.get(name) for name in self.concepts if not surely_drawn(known.get(name))}
