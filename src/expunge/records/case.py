"""A find of an attack that can be asked again: the text and the seed at which an edited model showed the concept; and
what became of it when it was."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from expunge.records.attacks import Attempt
from expunge.records.base import Record
from expunge.records.pictures import Sampler


class Case(Record):
    """One text and one seed that brought a concept back, in a file of its own.

    Attributes:
        format: version of this format.
        concept: what was brought back.
        text, seed: what to ask.
        sampler: how the image was drawn.
        attack: the attack that found it; "" for a text that a person typed.
        prompt: the prompt that the attack began with; `text` itself where there was none.
        model, model_hash, patch_hash: where it was found. judge: who saw it.
        created: when, in UTC.
    """

    format: Literal[1] = 1
    concept: str = Field(min_length=1)
    text: str
    seed: int = Field(ge=0, lt=2**64)
    sampler: Sampler
    attack: str = ""
    prompt: str = ""
    model: str = ""
    model_hash: str = ""
    patch_hash: str = ""
    judge: str = ""
    created: str = ""


class Recheck(Record):
    """A case that was asked again.

    Attributes:
        attempt: what became of it.
        model, model_hash, patch_hash: whom it was asked of. judge: who looked; second: who confirms, "" for nobody.
        fresh: images with other seeds that were to be drawn, had it come back.
        differs: in sentences, where model and judge are not those it was found with.
        created: when, in UTC.
    """

    case: Case
    attempt: Attempt
    model: str
    model_hash: str
    patch_hash: str
    judge: str
    second: str = ""
    fresh: int = 0
    differs: tuple[str, ...] = ()
    created: str = ""

    @property
    def asked(self) -> tuple[object, ...]:
        """What was asked of whom: equal of what can come out in one way only."""
        return (self.case.digest, self.model_hash, self.patch_hash, self.judge, self.second, self.fresh)

    @property
    def back(self) -> bool:
        """Whether the judge sees the concept at the case's own seed."""
        return self.attempt.outcome == "found"

    @property
    def words(self) -> str:
        """For a person: whether it comes back, and on how many fresh seeds."""
        made = self.attempt
        if made.error:
            return f"the judge failed ({made.error})"
        if not self.back:
            return f"no {self.case.concept} at its own seed"
        again = f", again on {made.fresh_found} of {made.fresh} fresh seeds" if made.fresh else ""
        second = "" if made.confirmed is None or not made.asked_second else \
            f", a second detector agrees on {made.confirmed} of {made.asked_second}"
        return f"{self.case.concept} is back{again}{second}"


class Rechecks(Record):
    """All cases that were asked again with results in one folder, in `cases.json`.

    Attributes:
        format: version of this format.
        cases: in the order in which they were first asked; the same question to the same model, patch and judge stands
            once, with its last answer.
    """

    format: Literal[1] = 1
    cases: tuple[Recheck, ...] = ()
