"""How images are drawn, as settings: shared by every verb that draws."""

from __future__ import annotations

from typing import Protocol

from expunge.config import Settings, knob
from expunge.records import Sampler


class Guided(Protocol):
    """What these settings need to know of a model: a `models.model.Model` is one."""

    guidance: float


class SamplingSettings(Settings):
    """The knobs of `records.Sampler`, and which seeds are drawn."""

    seeds: int = knob(4, "images per prompt, with seeds first_seed, first_seed + 1, ...", ge=1)
    first_seed: int = knob(0, "first of the seeds, the same for every prompt", ge=0)
    own_seeds: int = knob(1, "images per prompt whose list gives it a seed of its own, from that seed on", ge=1)
    steps: int = knob(20, "denoising steps (deterministic DDIM)", ge=1, le=1000)
    guidance: float | None = knob(None, "classifier-free guidance scale; 1 means none; None means the model's own",
                                  ge=1.0, le=50.0)
    height: int | None = knob(None, "height; None means the model's own", unit="pixels", ge=8, le=4096)
    width: int | None = knob(None, "width; None means the model's own", unit="pixels", ge=8, le=4096)
    negative: str = knob("", "negative prompt")
    truncate: bool = knob(False, "cut prompts that are longer than the text encoder reads, as most programs do; else "
                                 "they are left out and counted")
    batch: int = knob(32, "images drawn together: speed, memory, and at most the last bit of an image", ge=1)

    def sampler(self, model: Guided) -> Sampler:
        """How `model` draws images under these settings."""
        guidance = model.guidance if self.guidance is None else self.guidance
        return Sampler(steps=self.steps, guidance=guidance, height=self.height, width=self.width,
                       negative=self.negative, truncate=self.truncate)
