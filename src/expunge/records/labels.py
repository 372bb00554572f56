"""What people said of images that they saw blind, and how far they and the judges agree."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from expunge.records.base import Record

Answer = Literal["yes", "no", "unsure", ""]
"""Of a person: whether the concept is in the image; "" where nobody answered yet."""


class Label(Record):
    """One image of a sample, and who said what of it.

    Attributes:
        shot: key of the image (`ImageRecord.key`). file: PNG, relative to the image cache.
        edited: whether the edited model drew it.
        prompt, seed: the item; hidden from whoever labels.
        answer: the person's.
        judges: by a judge's name, whether it sees the concept; None where it abstained or failed.
    """

    shot: str
    file: str
    edited: bool
    prompt: str
    seed: int
    answer: Answer = ""
    judges: dict[str, bool | None] = {}


class Agreement(Record):
    """How far two agree on the same images.

    Attributes:
        one, other: who ("person: AB", or a judge's name). side: of which images: "all", "original" or "edited".
        n: images that both answered. left_out: images that one of them did not answer.
        agreed: share of the n on which they say the same.
        kappa, low, high: Cohen's kappa with its 95% interval; None where it says nothing. interval: how it was made.
    """

    one: str
    other: str
    side: str = "all"
    n: int = 0
    left_out: int = 0
    agreed: float | None = None
    kappa: float | None = None
    low: float | None = None
    high: float | None = None
    interval: str = ""


class Labelling(Record):
    """One person's answers to one sample.

    Attributes:
        person: how they call themselves. question: what was asked.
        seed, count: of the sample: images asked for. labels: the images in the order in which they were shown.
        created: when it began, in UTC.
    """

    person: str = Field(min_length=1, max_length=40)
    question: str
    seed: int = Field(ge=0)
    count: int = Field(ge=1)
    labels: tuple[Label, ...]
    created: str = ""

    @property
    def answered(self) -> int:
        """Images with an answer."""
        return sum(bool(label.answer) for label in self.labels)


class Labels(Record):
    """All labels of one evaluation, beside its record in `labels.json`.

    Attributes:
        format: version of this format.
        concept: what was looked for. patch_hash, model_hash: of the evaluation.
        people: one labelling of each person and sample, from its beginning on; a person has one answer to an image,
            the last one, in all samples that hold it.
        agreement: of every person with every judge, and of every two people on one sample.
    """

    format: Literal[1] = 1
    concept: str
    model_hash: str = ""
    patch_hash: str = ""
    people: tuple[Labelling, ...] = ()
    agreement: tuple[Agreement, ...] = ()
