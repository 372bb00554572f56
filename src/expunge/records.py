"""What passes between the parts of expunge: frozen records that are JSON on disk. No torch, no model.

Every stage ends in records, so that each can be run again, judged from outside or drawn later without a model.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Role = Literal["direct", "held_out", "paraphrase", "implicit", "near", "far", "style", "empty", "never_seen"]
"""Why a prompt is asked. direct, held_out, paraphrase, implicit: it asks for the concept (the forget side).
near, far, style, empty: it asks for something that must stay (the keep side). never_seen: a null control, a thing
that the model never knew."""

FORGET_ROLES: tuple[Role, ...] = ("direct", "held_out", "paraphrase", "implicit")
KEEP_ROLES: tuple[Role, ...] = ("near", "far", "style", "empty")


class Record(BaseModel):
    """Base of all records: frozen, no unknown keys, stable digest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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
        base: name of the base model, and `base_hash`: content hash of its weights.
        method: name of the method; settings: every knob, resolved.
        tensors: names of the changed tensors ("unet/....weight"), and `tensors_hash`: their content hash.
        seed: the run's seed.
        versions: of expunge, torch, diffusers, transformers.
        losses: first, last and a thinned series, by name.
        seconds: wall time of training; steps: optimisation steps done.
        created: ISO 8601, UTC.
    """

    format: int = 1
    request: Request
    base: str
    base_hash: str
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


class Evaluation(Record):
    """All that an evaluation found; the report needs nothing else.

    Attributes:
        format: version of this format.
        card: the patch's card.
        model: name and hash of the base model.
        sampler: how pictures were drawn.
        detectors: every detector and feature extractor used, name -> weights' hash.
        scores: all scores.
        strips: pictures to show.
        not_tested: plain sentences: what this evaluation says nothing about.
        warnings: doubts about the evaluation itself (a detector that rarely fires on the original, too few items).
        settings: the evaluation's own settings, resolved.
        versions, seconds, created: as in the card; machine: processor, cores, device.
    """

    format: int = 1
    card: PatchCard
    model: str
    model_hash: str
    sampler: Sampler
    detectors: dict[str, str] = {}
    scores: tuple[Score, ...] = ()
    strips: tuple[Strip, ...] = ()
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
