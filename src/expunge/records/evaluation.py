"""All that an evaluation found, with the images to show."""

from __future__ import annotations

from typing import Any, Literal

from expunge.records.attacks import Assault
from expunge.records.base import Record
from expunge.records.card import PatchCard
from expunge.records.pictures import Role, Sampler
from expunge.records.relearning import Relearning
from expunge.records.score import Score, Scored


class Strip(Record):
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


class Find(Record):
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
        sampler: how images were drawn; drawn: what else decided them (`models.base.drawn_by`; empty in records of
            older versions).
        prompts_hash: digest of the prompts that were asked, with their roles and labels ("" in older records).
        given: plain sentences: how many prompts the user gave, how many were used, and why not the others.
        left_out: prompts that could not be drawn, with the reason.
        strata: the ways of asking that were told apart, in words, by name; plain: those that say no more than what
            should be there.
        detectors: every detector and feature extractor used, name -> weights' hash.
        scores: all scores.
        strips: images to show.
        assault: what attacks found, if any were made; finds: images of theirs to show.
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
    strips: tuple[Strip, ...] = ()
    assault: Assault | None = None
    relearning: Relearning | None = None
    finds: tuple[Find, ...] = ()
    not_tested: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    settings: dict[str, Any] = {}
    versions: dict[str, str] = {}
    machine: str = ""
    seconds: float = 0.0
    created: str = ""
