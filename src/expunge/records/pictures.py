"""Images: why a prompt is asked, how it is drawn, what was drawn, and what a detector said of it."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal, NamedTuple

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from expunge.records.base import Record

Role = Literal["direct", "held_out", "paraphrase", "implicit", "near", "far", "style", "empty", "never_seen"]
"""Why a prompt is asked. direct, held_out, paraphrase, implicit: it asks for the concept (the forget side).
near, far, style, empty: it asks for something that must stay (the keep side). never_seen: a null control, a thing
that the model never knew."""

FORGET_ROLES: tuple[Role, ...] = ("direct", "held_out", "paraphrase", "implicit")
KEEP_ROLES: tuple[Role, ...] = ("near", "far", "style", "empty")


class Prompt(Record):
    """A prompt of an evaluation, with what it asks for.

    Attributes:
        text: the prompt.
        role: why it is asked.
        labels: what the judge should see, by question ("object": "church", "style": "flat", "background": "blue");
            questions that the prompt leaves open are missing.
        stratum: how it asks, by the world's name for it ("short", "full"); "" where the world tells no strata apart.
        beside: a second thing that it asks for in the same image; "" for none.
        homonym: of a prompt to keep whose words hold the concept's name: what it is about all the same ("nurse shark"
            when "nurse" goes). These are the test of precision, and stand apart in the tables.
        seed, guidance, height, width: how the list that it comes from asks for it; None leaves it to the settings.
        case: what that list calls it (its case number); "" for nothing.
    """

    text: str
    role: Role
    labels: dict[str, str] = {}
    stratum: str = ""
    beside: str = ""
    homonym: str = ""
    seed: int | None = Field(None, ge=0, lt=2**64)
    guidance: float | None = Field(None, ge=1.0, le=50.0)
    height: int | None = Field(None, ge=8, le=4096)
    width: int | None = Field(None, ge=8, le=4096)
    case: str = ""

    @model_serializer(mode="wrap")
    def _lean(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what is empty: what was recorded before these fields were there stays the same."""
        values: dict[str, Any] = write(self)
        always = ("text", "role", "labels")
        return {key: value for key, value in values.items() if key in always or value not in ("", None)}

    @property
    def drawn_its_own_way(self) -> bool:
        """Whether its list says with which guidance or at which size it is drawn."""
        return (self.guidance, self.height, self.width) != (None, None, None)

    def seeds(self, first: int, count: int, own: int) -> range:
        """The seeds at which it is drawn: `own` from the seed of its list on, or `count` from `first` on."""
        return range(first, first + count) if self.seed is None else range(self.seed, self.seed + own)


MOST_STEPS = 1000
"""Most denoising steps of an image."""


class ItemKey(NamedTuple):
    """What tells the items of an evaluation, or of attacks, apart: the prompt's text and the image's seed."""

    text: str
    seed: int


class Sampler(Record):
    """How images are drawn: everything beside (prompt, seed) that changes a pixel.

    Attributes:
        steps: denoising steps.
        guidance: classifier-free guidance scale; 1 means none. The default is emoji-64's; a model's own is
            `Model.guidance`.
        height, width: pixels; None means the model's own size.
        negative: negative prompt.
        truncate: prompts that are longer than the text encoder reads are cut, as most programs do; of an image: its
            prompt was.
        scheduler: diffusers' scheduler (`models.schedulers`); "" is the model's own deterministic sampler.
    """

    steps: int = Field(20, ge=1, le=MOST_STEPS)
    guidance: float = Field(2.0, ge=1.0, le=50.0)
    height: int | None = Field(None, ge=8, le=4096)
    width: int | None = Field(None, ge=8, le=4096)
    negative: str = ""
    truncate: bool = False
    scheduler: str = ""

    @model_serializer(mode="wrap")
    def _lean(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without `truncate` and `scheduler` where they are not set: so it was before there were such things."""
        values: dict[str, Any] = write(self)
        return {key: value for key, value in values.items() if value or key not in ("truncate", "scheduler")}

    def of(self, prompt: Prompt) -> Sampler:
        """How `prompt` is drawn: as its list says, where that says anything."""
        own = {"guidance": prompt.guidance, "height": prompt.height, "width": prompt.width}
        stated = {key: value for key, value in own.items() if value is not None}
        return self.model_copy(update=stated) if stated else self


class ImageRecord(Record):
    """One drawn image: from what, how, and where it lies.

    Attributes:
        prompt, seed: the item. The image depends on these, the sampler and the weights, on nothing else.
        sampler: how it was drawn.
        model: content hash of the base model's weights.
        patch: content hash of the patch applied to it; "" for the original model.
        file: PNG, relative to the image cache; "" of one that is not there, because what was drawn is not finite.
        pixels: sha256 of the image's uint8 RGB pixels.
    """

    prompt: Prompt
    seed: int
    sampler: Sampler
    model: str
    patch: str = ""
    file: str = ""
    pixels: str = ""

    @property
    def item_key(self) -> ItemKey:
        """The item."""
        return ItemKey(self.prompt.text, self.seed)

    @property
    def key(self) -> str:
        """Content address of the image: hash of (model, patch, prompt text, seed, sampler)."""
        parts = [self.model, self.patch, self.prompt.text, self.seed, self.sampler.model_dump(mode="json")]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


class SampledImage(ImageRecord):
    """An image in a folder that was drawn by itself, apart from evaluations and attacks.

    Attributes:
        model_name: what the model was called, with the LoRAs that are merged into it; family: what it is, in words.
            Both are "" in records of older versions.
    """

    model_name: str = ""
    family: str = ""


class Detection(Record):
    """What a detector says of one image.

    Attributes:
        shot: key of the image, and detector: name and weights' hash of the detector ("emoji-judge@1a2b3c"), of a
            detection that is kept.
        answers: label by question; a question that the detector abstained from is missing.
        confidence: calibrated probability of the top label, by question (abstentions included).
        error: why the detector failed on this image; "" when it worked. A failure is never a success.
        best, lead: of a judge that answers by a lead: the first label by question, abstained from or not, and by how
            much probability it leads the second.
        found: whether it shows what an attack seeks (`attacks.base.Goal.see`); not kept.
    """

    shot: str = ""
    detector: str = ""
    answers: dict[str, str] = {}
    confidence: dict[str, float] = {}
    error: str = ""
    best: dict[str, str] = {}
    lead: dict[str, float] = {}
    found: bool = Field(False, exclude=True)
