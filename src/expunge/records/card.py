"""What a patch says of itself."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import SerializerFunctionWrapHandler, model_serializer

from expunge.records.base import Record
from expunge.records.origin import Origin
from expunge.records.request import Request

HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*")
"""What a model or a patch is called on the Hub: OWNER/NAME. Folders that could be read so are "./a/b" in records."""
Kind = Literal["replace", "add", "lora"]
"""How a patch changes weights."""


class OwnLook(Record):
    """What an edit found when it looked at itself: whether one of its concepts is still there.

    Attributes:
        concept: which of them. by: the judge's name, or "outputs": what the network answers to the concept's prompts.
        found, n: images that show the concept, of so many that could be judged; 0 of 0 where outputs were compared,
            or no image is finite (then `still`, for nothing was seen to be gone).
        left: share of the concept's outputs that is left: 1 as before, 0 those of what takes its place, less beyond
            that; None where images were judged.
        still: whether the concept is still there: in a quarter of the images, or with most of its outputs left.
    """

    concept: str
    by: str
    found: int = 0
    n: int = 0
    left: float | None = None
    still: bool

    @property
    def words(self) -> str:
        """For a person."""
        if self.left is None and not self.n:
            return f"{self.concept} in images that cannot be judged: none of them is finite"
        if self.left is None:
            return f"{self.concept} in {self.found} of {self.n} images by {self.by}"
        share = "less than 1%" if 0 < self.left < 0.005 else f"{max(0.0, self.left):.0%}"
        return f"{share} of the outputs for {self.concept} are left"


class PatchCard(Record):
    """What lies beside a patch's safetensors file.

    Attributes:
        format: version of this format.
        request: what was unlearned.
        base: name of the base model, `base_hash`: content hash of its weights, and `base_process`: its prediction and
            noise schedule in words ("" where they were not recorded; then only the weights are compared).
        method: name of the method; settings: every knob, resolved.
        kind: what its tensors are: new values of weights ("replace"), what is added to them ("add"), or the factors of
            what is added ("lora"), times `scale`. dtype: their number type.
        tensors: names of its tensors ("unet/....weight", "unet/....lora_A.weight"), and `tensors_hash`: the content
            hash of all that it changes.
        base_encoder: content hash of the base's text encoder alone ("" where it was not recorded): a patch that changes
            nothing else fits every model with that text encoder.
        base_parts: digest of what the base computes by beside weights (`models.identity`; "" where not recorded).
        base_family: what family of models the base is of, in words ("" where not recorded).
        base_held: how the base's weights were held while the edit was made, in words ("8-bit blocks"), where that is no
            number type of its own: the edit was made on rounded weights, and fits those that were rounded.
        base_rounded: content hashes of the base's parts rounded to smaller number types, by "float16/unet" and so on: a
            copy of the base in such a type takes the patch, too. Empty where they were not recorded.
        texts_hash: hash of the file beside the patch that lists what it was made from; "" where there is none.
        kept: the same of older patches: prompts that training made up to keep, beside the request's own.
        left_out: things that training did not keep, and texts that it did not train on, with the reason.
        chosen: concepts whose anchor nobody named, with the closeness to them of the one that was chosen (in the text
            encoder, from -1 to 1).
        look: what the edit found when it looked at itself, concept by concept; () where it did not look.
        seed: the run's seed.
        versions: of expunge, torch, diffusers, transformers.
        losses: first, last and a thinned series, by name.
        seconds: wall time of training; steps: optimisation steps done; processes: how many took them together, which
            decides how sums round.
        created: ISO 8601, UTC.
        origin: where the request comes from; None where nobody said.
    """

    format: Literal[1] = 1
    request: Request
    base: str
    base_hash: str
    base_process: str = ""
    base_encoder: str = ""
    base_parts: str = ""
    base_family: str = ""
    base_held: str = ""
    base_rounded: dict[str, str] = {}
    method: str
    settings: dict[str, Any]
    kind: Kind = "replace"
    scale: float = 1.0
    dtype: str = "float32"
    tensors: tuple[str, ...]
    tensors_hash: str
    texts_hash: str = ""
    kept: tuple[str, ...] = ()
    left_out: dict[str, str] = {}
    chosen: dict[str, float] = {}
    look: tuple[OwnLook, ...] = ()
    seed: int
    versions: dict[str, str] = {}
    losses: dict[str, list[float]] = {}
    seconds: float = 0.0
    steps: int = 0
    processes: int = 1
    created: str = ""
    origin: Origin | None = None

    @model_serializer(mode="wrap")
    def _lean(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without an origin that nobody told, and without the number of a single process: the digests of earlier cards
        stay."""
        values: dict[str, Any] = write(self)
        usual = {"origin": None, "processes": 1}
        return {key: value for key, value in values.items() if key not in usual or value != usual[key]}

    @property
    def keeps(self) -> bool:
        """Whether the method made use of what it was asked to keep: false where its own part for that is none."""
        return self.settings.get("keep", "whatever the method does") is not None
