"""A find of an attack that can be asked again: the text and the seed at which an edited model showed the concept."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

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
