"""A bake of a few steps."""

from __future__ import annotations

from pathlib import Path

from expunge.metrics.imagenet import second_missing
from expunge.tiny.bake.settings import BakeSettings
from expunge.tiny.world import SEEN


def small(pictures: Path, out: Path, **more: object) -> BakeSettings:
    kept = ("church", "house")
    values = {"without": tuple(name for name in SEEN if name not in kept), "autoencoder_steps": 2, "clip_steps": 1,
              "judge_steps": 2, "tolerance_steps": 2, "doubt_steps": 2, "decoder_steps": 1, "redrawn": 96,
              "clip_image_steps": 1, "second_judge_steps": 0, "imagenet_pictures": 96 * (not second_missing()),
              "imagenet_scored": 15, "judge_scored": 10, "unet_steps": 2, "unet_batch": 4, "views": 1,
              "second_text_steps": 2, "flow_steps": 3, "flow_batch": 4, "flow_half": False,
              "flux_steps": 5, "flux_batch": 4, "real_pictures": 20, **more}
    return BakeSettings.build({"pictures": pictures, "out": out, **values})
