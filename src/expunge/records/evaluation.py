"""All that an evaluation found, with the images to show."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import model_validator

from expunge.records.attacks import SuiteResult
from expunge.records.base import Record
from expunge.records.card import PatchCard
from expunge.records.pictures import Role, Sampler
from expunge.records.relearning import Relearning
from expunge.records.score import Score, Scored


class ImageStrip(Record):
    """Images for the report: the same prompt and seeds, original above, edited below.

    Attributes:
        role, prompt: what was asked.
        seeds: one per column.
        original, edited: PNG files, one per seed, relative to the evaluation's folder.
    """

    role: Role
    prompt: str
    seeds: tuple[int, ...]
    original: tuple[str, ...]
    edited: tuple[str, ...]


class AttackExample(Record):
    """An image that an attack stopped at, beside what the same prompt and seed give without the attack.

    Attributes:
        attack: the attack's name.
        prompt, seed: the item; text: what the attack asked instead ("" where it asks nothing else).
        original, edited: PNG files of both models without an attack; found: of the attack; all relative to the
            evaluation's folder.
        fresh, fresh_found, confirmed: as in `Attempt`.
    """

    attack: str
    prompt: str
    seed: int
    text: str = ""
    original: str
    edited: str
    found: str
    fresh: int = 0
    fresh_found: int = 0
    confirmed: int | None = None


class Evaluation(Scored, Record):
    """All that an evaluation found; the report needs nothing else.

    Attributes:
        format: version of this format.
        card: the patch's card.
        model: name of the base model, and `model_hash`: content hash of its weights.
        sampler: how images were drawn; drawn: what else decided them (`models.model.drawn_by`; empty in records of
            older versions).
        prompts_hash: digest of the prompts that were asked, with their roles and labels ("" in older records).
        given: plain sentences: how many prompts the user gave, how many were used, and why not the others.
        left_out: prompts that could not be drawn, with the reason.
        strata: the ways of asking that were told apart, in words, by name; plain: those that say no more than what
            should be there.
        detectors: every detector and feature extractor used, name -> weights' hash.
        scores: all scores.
        strips: images to show.
        suite: what attacks found, if any were made; finds: images of theirs to show.
        relearning: how fast fine-tuning brings the concept back, if that was measured.
        not_tested: plain sentences: what this evaluation says nothing about.
        warnings: those about the evaluation itself (a detector that rarely fires on the original, too few items).
        settings: the evaluation's own settings, resolved.
        versions, seconds, created: as in the card; machine: processor, cores, device.
    """

    format: Literal[1] = 1
    card: PatchCard
    model: str
    model_hash: str
    sampler: Sampler
    drawn: dict[str, str] = {}
    prompts_hash: str = ""
    given: tuple[str, ...] = ()
    left_out: dict[str, str] = {}
    strata: dict[str, str] = {}
    plain: tuple[str, ...] = ()
    detectors: dict[str, str] = {}
    scores: tuple[Score, ...] = ()
    strips: tuple[ImageStrip, ...] = ()
    suite: SuiteResult | None = None
    relearning: Relearning | None = None
    finds: tuple[AttackExample, ...] = ()
    not_tested: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    settings: dict[str, Any] = {}
    versions: dict[str, str] = {}
    machine: str = ""
    seconds: float = 0.0
    created: str = ""

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, values: Any) -> Any:
        """Records of 0.1 call the suite by its former name."""
        if isinstance(values, dict) and "assault" in values:
            values = {**values, "suite": values["assault"]}
            del values["assault"]
        return values
