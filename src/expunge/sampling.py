"""How pictures are drawn, as settings: shared by every verb that draws."""

from __future__ import annotations

from expunge.config import Settings, knob
from expunge.records import Sampler


class SamplingSettings(Settings):
    """The knobs of `records.Sampler`, and which seeds are drawn."""

    seeds: int = knob(4, "pictures per prompt, with seeds first_seed, first_seed + 1, ...", ge=1)
    first_seed: int = knob(0, "first of the seeds, the same for every prompt", ge=0)
    steps: int = knob(20, "denoising steps (deterministic DDIM)", ge=1, le=1000)
    guidance: float = knob(3.0, "classifier-free guidance scale; 1 means none", ge=1.0, le=50.0)
    height: int | None = knob(None, "height; None means the model's own", unit="pixels", ge=8)
    width: int | None = knob(None, "width; None means the model's own", unit="pixels", ge=8)
    negative: str = knob("", "negative prompt")
    batch: int = knob(32, "pictures drawn together; changes speed and memory only", ge=1)

    @property
    def sampler(self) -> Sampler:
        """How pictures are drawn."""
        return Sampler(steps=self.steps, guidance=self.guidance, height=self.height, width=self.width,
                       negative=self.negative)
