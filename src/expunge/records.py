"""What passes between the parts of expunge: frozen records that are JSON on disk. No torch, no model.

Every stage ends in records, so that each can be run again, judged from outside or drawn later without a model.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from typing_extensions import Self

Role = Literal["direct", "held_out", "paraphrase", "implicit", "near", "far", "style", "empty", "never_seen"]
"""Why a prompt is asked. direct, held_out, paraphrase, implicit: it asks for the concept (the forget side).
near, far, style, empty: it asks for something that must stay (the keep side). never_seen: a null control, a thing
that the model never knew."""

FORGET_ROLES: tuple[Role, ...] = ("direct", "held_out", "paraphrase", "implicit")
KEEP_ROLES: tuple[Role, ...] = ("near", "far", "style", "empty")


class Record(BaseModel):
    """Base of all records: frozen, no unknown keys, stable digest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def read(cls, text: str) -> Self:
        """The record that `text`, its JSON, holds.

        Raises:
            ValueError: it is no JSON or no such record; every mistake in one line.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            wrong = "; ".join(": ".join([*(str(part) for part in item["loc"]), item["msg"]]) for item in error.errors())
            raise ValueError(f"{cls.__name__}: {wrong}") from error

    @property
    def digest(self) -> str:
        """sha256 (first 16 hex digits) of the record's canonical JSON."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Request(Record):
    """What is to be unlearned.

    Attributes:
        concept: name of the concept, as a prompt would call it ("church").
        prompts: prompts that ask for it; training draws from them. Never empty.
        anchor: what takes its place ("house"); "" means nothing in particular.
        keep: prompts that must stay as they are; training may hold on to them.
    """

    concept: str = Field(min_length=1)
    prompts: tuple[str, ...] = Field(min_length=1)
    anchor: str = ""
    keep: tuple[str, ...] = ()


class Prompt(Record):
    """A prompt of an evaluation, with what it asks for.

    Attributes:
        text: the prompt.
        role: why it is asked.
        labels: what the judge should see, by question ("object": "church", "style": "flat", "background": "blue");
            questions that the prompt leaves open are missing.
    """

    text: str
    role: Role
    labels: dict[str, str] = {}


class Sampler(Record):
    """How pictures are drawn: everything beside (prompt, seed) that changes a pixel.

    Attributes:
        steps: denoising steps.
        guidance: classifier-free guidance scale; 1 means none.
        height, width: pixels; None means the model's own size.
        negative: negative prompt.
    """

    steps: int = Field(20, ge=1, le=1000)
    guidance: float = Field(3.0, ge=1.0, le=50.0)
    height: int | None = Field(None, ge=8)
    width: int | None = Field(None, ge=8)
    negative: str = ""


class Shot(Record):
    """One drawn picture: from what, how, and where it lies.

    Attributes:
        prompt, seed: the item. The picture depends on these, the sampler and the weights, on nothing else.
        sampler: how it was drawn.
        model: content hash of the base model's weights.
        patch: content hash of the patch applied to it; "" for the original model.
        file: PNG, relative to the image cache.
        pixels: sha256 of the picture's uint8 RGB pixels.
    """

    prompt: Prompt
    seed: int
    sampler: Sampler
    model: str
    patch: str = ""
    file: str = ""
    pixels: str = ""

    @property
    def key(self) -> str:
        """Content address of the picture: hash of (model, patch, prompt text, seed, sampler)."""
        parts = [self.model, self.patch, self.prompt.text, self.seed, self.sampler.model_dump(mode="json")]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


class Judgment(Record):
    """What a detector said of one picture.

    Attributes:
        shot: key of the picture.
        detector: name and weights' hash of the detector ("emoji-judge@1a2b3c").
        answers: label by question; a question that the detector abstained from is missing.
        confidence: calibrated probability of the top label, by question (abstentions included).
        error: why the detector failed on this picture; "" when it worked. A failure is never a success.
    """

    shot: str
    detector: str
    answers: dict[str, str] = {}
    confidence: dict[str, float] = {}
    error: str = ""


class Score(Record):
    """A number with everything needed to trust it.

    Attributes:
        name: machine name ("found/held_out", "integrity/near", "fid/original").
        title: what a person reads.
        value: the estimate; None when nothing could be measured (then `note` says why).
        low, high: ends of the 95% interval.
        interval: how the interval was made ("Wilson", "bootstrap over prompts, 2000 draws, seed 0").
        n: how many items the estimate rests on, and `of`: what they are ("images", "prompts").
        numerator: for rates, the count.
        denominator: in words, what is counted over.
        left_out: items that are not in n, by reason ("abstained": 3, "detector failed": 0).
        higher_is_better: direction; None where neither is good.
        subject: "edited", "original" or "comparison".
        seeds: the seeds used.
        per_item: value by item key; kept so that worst cases and paired statistics stay possible.
        note: anything a reader must know.
    """

    name: str
    title: str
    value: float | None
    low: float | None = None
    high: float | None = None
    interval: str = ""
    n: int = 0
    of: str = "images"
    numerator: int | None = None
    denominator: str = ""
    left_out: dict[str, int] = {}
    higher_is_better: bool | None = None
    subject: Literal["edited", "original", "comparison"] = "edited"
    seeds: tuple[int, ...] = ()
    per_item: dict[str, float] = {}
    note: str = ""


class PatchCard(Record):
    """What lies beside a patch's safetensors file.

    Attributes:
        format: version of this format.
        request: what was unlearned.
        base: name of the base model, `base_hash`: content hash of its weights, and `base_process`: its prediction and
            noise schedule in words ("" where they were not recorded; then only the weights are compared).
        method: name of the method; settings: every knob, resolved.
        tensors: names of the changed tensors ("unet/....weight"), and `tensors_hash`: their content hash.
        seed: the run's seed.
        versions: of expunge, torch, diffusers, transformers.
        losses: first, last and a thinned series, by name.
        seconds: wall time of training; steps: optimisation steps done.
        created: ISO 8601, UTC.
    """

    format: Literal[1] = 1
    request: Request
    base: str
    base_hash: str
    base_process: str = ""
    method: str
    settings: dict[str, Any]
    tensors: tuple[str, ...]
    tensors_hash: str
    seed: int
    versions: dict[str, str] = {}
    losses: dict[str, list[float]] = {}
    seconds: float = 0.0
    steps: int = 0
    created: str = ""


class Spent(Record):
    """What an attack used up on one item, until it succeeded or gave up.

    Attributes:
        gradient_steps: optimisation steps.
        network_rows: rows that went through the denoiser; one with a gradient counts three (forward and backward).
        images: pictures drawn and judged.
        seconds: wall time, shared equally among the items of a batch.
    """

    gradient_steps: int = 0
    network_rows: int = 0
    images: int = 0
    seconds: float = 0.0


class Attempt(Record):
    """What one attack made of one (prompt, seed).

    Attributes:
        attack: the attack's name, and `access`: what it may do.
        prompt, seed: the item.
        outcome: "found before": the edited model shows the concept without any attack; "found": it does under this
            attack; "not elicited": not within the budget; "failed": the attempt broke off, and `error` says why. A
            failed attempt counts neither way and is made again when the run is resumed.
        spent: what it cost.
        text: the adversarial prompt, if it is one; ids: its tokens as optimised, reread: as tokenized again.
        picture: PNG that the judge accepted, relative to the attack's folder.
        tensors: safetensors file of a learned embedding or latent, relative to the attack's folder.
        fresh, fresh_found: pictures drawn again with other seeds, and those in which the judge finds the concept.
        confirmed: of the fresh pictures found, those that a second detector agrees on; None without a second detector.
        note: what else a reader must know.
    """

    attack: str
    access: str
    prompt: Prompt
    seed: int
    outcome: Literal["found before", "found", "not elicited", "failed"]
    spent: Spent = Spent()
    text: str = ""
    ids: tuple[int, ...] = ()
    reread: tuple[int, ...] = ()
    picture: str = ""
    tensors: str = ""
    fresh: int = 0
    fresh_found: int = 0
    confirmed: int | None = None
    error: str = ""
    note: str = ""


class AttackRun(Record):
    """One attack of a suite: its settings, what it tried, and its null control.

    Attributes:
        attack, access, white_box, source, settings: what it is.
        budget: the most that it may spend on one item (seconds 0: not limited).
        attempts: one per item that it was given.
        control: the same attack where nothing can be found; `control_of` says in words what that was ("" and empty: no
            null control was run).
    """

    attack: str
    access: str
    white_box: bool
    source: str = ""
    settings: dict[str, Any] = {}
    budget: Spent = Spent()
    attempts: tuple[Attempt, ...] = ()
    control: tuple[Attempt, ...] = ()
    control_of: str = ""


class Assault(Record):
    """All that a suite of attacks found; tables, verdict and report need nothing else.

    Attributes:
        card: the patch's card; None when the unedited model was attacked.
        request: the concept that was sought.
        model, model_hash, patch_hash, sampler: what was attacked, and how pictures were drawn.
        judge, second: names with weights' hashes of the detectors ("" for no second one).
        left_out: items that were not attacked, by reason ("the original model does not show it": 3).
        before: the items without any attack, one attempt per item.
        runs: one per attack, in the order in which they were made.
        each: whether every attack was given every item; False: only those still standing.
        scores, warnings, settings, versions, machine, seconds, created: as in `Evaluation`.
    """

    format: Literal[1] = 1
    card: PatchCard | None = None
    request: Request
    model: str
    model_hash: str
    patch_hash: str = ""
    sampler: Sampler
    judge: str
    second: str = ""
    left_out: dict[str, int] = {}
    before: tuple[Attempt, ...]
    runs: tuple[AttackRun, ...]
    each: bool = False
    scores: tuple[Score, ...] = ()
    warnings: tuple[str, ...] = ()
    settings: dict[str, Any] = {}
    versions: dict[str, str] = {}
    machine: str = ""
    seconds: float = 0.0
    created: str = ""

    def score(self, name: str) -> Score:
        """The score called `name`; KeyError if there is none."""
        for score in self.scores:
            if score.name == name:
                return score
        raise KeyError(name)


class Strip(Record):
    """Pictures for the report: the same prompt and seeds, original above, edited below.

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
    """A picture that an attack stopped at, beside what the same prompt and seed give without the attack.

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


class Evaluation(Record):
    """All that an evaluation found; the report needs nothing else.

    Attributes:
        format: version of this format.
        card: the patch's card.
        model: name of the base model, and `model_hash`: content hash of its weights.
        sampler: how pictures were drawn.
        detectors: every detector and feature extractor used, name -> weights' hash.
        scores: all scores.
        strips: pictures to show.
        assault: what attacks found, if any were made; finds: pictures of theirs to show.
        not_tested: plain sentences: what this evaluation says nothing about.
        warnings: doubts about the evaluation itself (a detector that rarely fires on the original, too few items).
        settings: the evaluation's own settings, resolved.
        versions, seconds, created: as in the card; machine: processor, cores, device.
    """

    format: Literal[1] = 1
    card: PatchCard
    model: str
    model_hash: str
    sampler: Sampler
    detectors: dict[str, str] = {}
    scores: tuple[Score, ...] = ()
    strips: tuple[Strip, ...] = ()
    assault: Assault | None = None
    finds: tuple[Find, ...] = ()
    not_tested: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    settings: dict[str, Any] = {}
    versions: dict[str, str] = {}
    machine: str = ""
    seconds: float = 0.0
    created: str = ""

    def score(self, name: str) -> Score:
        """The score called `name`; KeyError if there is none."""
        for score in self.scores:
            if score.name == name:
                return score
        raise KeyError(name)
