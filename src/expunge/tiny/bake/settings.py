"""What `expunge bake` may be told, and whom it tells of its progress."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from expunge.config import Settings, knob
from expunge.train import Losses

Say = Callable[[str, int, int, Losses], None]
"""Told of progress: (stage, steps done, steps in all, losses)."""


class BakeSettings(Settings):
    """Settings of `expunge bake`."""

    pictures: Path = knob(description="folder that holds emojicanvas/ and emojicanvas-extended/")
    out: Path = knob(Path("runs/bake"), "where the model and the work in progress go")
    make: Literal["emoji-64", "emoji-flow", "emoji-xl", "emoji-flux"] = knob(
        "emoji-64", "a UNet as in Stable Diffusion 1.x; a flow transformer as in Stable Diffusion 3.5; the first in "
        "the form of Stable Diffusion XL; a flow transformer as in FLUX.1 dev")
    without: tuple[str, ...] = knob((), "things or styles that the diffusion model never sees")
    start: Path | None = knob(None, "a baked folder to go on from: only its UNet trains, or "
                               "a fresh transformer on its other parts")
    seed: int = knob(0, "seed of every stage", ge=0)
    autoencoder_steps: int = knob(1200, "steps of the autoencoder", ge=1)
    decoder_steps: int = knob(3000, "steps of the decoder alone, after the autoencoder's", ge=0)
    clip_steps: int = knob(400, "steps of CLIP", ge=1)
    clip_image_steps: int = knob(1500, "steps of CLIP's image tower alone, after the autoencoder", ge=0)
    judge_steps: int = knob(4500, "steps of the judge; whole cycles of 1500", ge=1)
    tolerance_steps: int = knob(1800, "steps of the judge's second stage: tone, frame, blur, noise", ge=1)
    doubt_steps: int = knob(2700, "steps of the judge's third stage: more junk, half of it all unchanged", ge=1)
    second_judge_steps: int = knob(1500, "steps of the judge that is scored on vendors it never saw; 0: none", ge=0)
    redrawn: int = knob(14400, "images through the autoencoder that the judge learns from", ge=96)
    judge_scored: int = knob(4000, "fresh augmentations that score the judge", unit="pictures", ge=10)
    imagenet_pictures: int = knob(7680, "images that the heads on ImageNet features learn from; 0: no such heads, "
                                  "and no need of the extra `second`", ge=0)
    imagenet_scored: int = knob(450, "images behind each score of those heads", unit="pictures", ge=15)
    real_pictures: int = knob(4000, "augmented drawings behind the statistics of real images", ge=10)
    unet_steps: int = knob(15800, "steps of the UNet", ge=1)
    unet_batch: int = knob(48, "latents per UNet step", ge=1)
    unet_rate: float = knob(1e-3, "peak learning rate of the UNet", gt=0)
    second_text_steps: int = knob(600, "steps of a flow model's second text encoder", ge=1)
    flow_steps: int = knob(20000, "steps of emoji-flow's transformer", ge=1)
    flow_batch: int = knob(48, "latents per step of emoji-flow's transformer", ge=1)
    flow_rate: float = knob(1e-3, "peak learning rate of emoji-flow's transformer", gt=0)
    flow_half: bool = knob(True, "whether a transformer's matrix products are in bfloat16")
    flow_start: Path | None = knob(None, "a baked emoji-flow, whose blocks emoji-flux's transformer begins with")
    flux_steps: int = knob(6000, "steps of emoji-flux's transformer", ge=1)
    flux_batch: int = knob(16, "latents per step of emoji-flux's transformer", ge=1)
    flux_rate: float = knob(1e-3, "peak learning rate of emoji-flux's transformer", gt=0)
    views: int = knob(5, "augmentations of each drawing on each background", ge=1)
    threads: int = knob(0, "CPU threads; 0 leaves torch's own choice", ge=0)
