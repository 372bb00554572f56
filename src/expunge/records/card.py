"""What a patch says of itself."""

from __future__ import annotations

from typing import Any, Literal

from expunge.records.base import Record
from expunge.records.request import Request


class PatchCard(Record):
    """What lies beside a patch's safetensors file.

    Attributes:
        format: version of this format.
        request: what was unlearned.
        base: name of the base model, `base_hash`: content hash of its weights, and `base_process`: its prediction and
            noise schedule in words ("" where they were not recorded; then only the weights are compared).
        method: name of the method; settings: every knob, resolved.
        tensors: names of the changed tensors ("unet/....weight"), and `tensors_hash`: their content hash.
        base_encoder: content hash of the base's text encoder alone ("" where it was not recorded): a patch that changes
            nothing else fits every model with that text encoder.
        kept: prompts that training made up to keep, beside the request's own; left_out: things that it did not keep,
            with the reason.
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
    base_encoder: str = ""
    method: str
    settings: dict[str, Any]
    tensors: tuple[str, ...]
    tensors_hash: str
    kept: tuple[str, ...] = ()
    left_out: dict[str, str] = {}
    seed: int
    versions: dict[str, str] = {}
    losses: dict[str, list[float]] = {}
    seconds: float = 0.0
    steps: int = 0
    created: str = ""
