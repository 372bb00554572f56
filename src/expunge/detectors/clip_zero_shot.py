"""CLIP zero-shot over a list of classes: probability among them, or cosine, of any CLIP in a folder of transformers
or OpenCLIP.

For example MACE's objects: ViT-B/32, "a photo of the {}", softmax over ten names, and the mean probability of one of
them is called its accuracy (rule mean).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import field_validator
from torch import Tensor

from expunge.config import knob
from expunge.detectors.base import Detector, DetectorSettings, Need, Reading
from expunge.detectors.preprocess import prepared
from expunge.metrics.clip import LocalClip


class ClipZeroShot(DetectorSettings):
    """See the module."""

    kind: ClassVar[str] = "clip"
    needs: ClassVar[tuple[Need, ...]] = (Need(
        "folder", "a folder of a CLIP with its tokenizer: transformers' (config.json, model.safetensors) or OpenCLIP's "
                  "(open_clip_config.json, open_clip_model.safetensors)",
        "https://huggingface.co/openai/clip-vit-large-patch14 and others", folder=True),)

    classes: tuple[str, ...] = knob(..., "what an image may show", min_length=1)
    template: str = knob("a photo of a {}", "text for a class, {} in its place", pattern=r"\{\}")
    score: Literal["probability", "cosine"] = knob(
        "probability", "softmax over the classes of the scaled cosines, or the cosine itself, in [-1, 1]")
    preprocess: Literal["folder", "clip224"] = knob(
        "folder", "how images are prepared: on floats with the folder's statistics, or as openai/CLIP does")

    @field_validator("classes")
    @classmethod
    def _distinct(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(classes)) < len(classes):
            raise ValueError("the same class twice")
        return classes

    def open(self, files: Mapping[str, Path]) -> Detector:
        """See `DetectorSettings.open`."""
        return ClipDetector(self.named(files), LocalClip(files["folder"]), self)


class ClipDetector:
    """A CLIP that is asked about classes. Attributes: see `Detector`."""

    finds_boxes = False

    def __init__(self, name: str, clip: LocalClip, settings: ClipZeroShot) -> None:
        self.name, self.labels, self._clip, self._settings = name, settings.classes, clip, settings
        self.floor = -1.0 if settings.score == "cosine" else 0.0
        self._texts = clip.text_features([settings.template.replace("{}", label) for label in settings.classes])

    def __call__(self, images: Tensor) -> list[Reading]:
        """One reading per image."""
        if not len(images):
            return []
        cosines = image_features(self._clip, images, self._settings.preprocess) @ self._texts.T  # (B, classes)
        scores = cosines if self._settings.score == "cosine" else (self._clip.scale * cosines).softmax(1)
        return [Reading(dict(zip(self.labels, row, strict=True))) for row in scores.tolist()]


@torch.no_grad()
def image_features(clip: LocalClip, images: Tensor, preprocess: str) -> Tensor:
    """float32 (B, width), unit length, under the folder's own pre-processing or under clip224."""
    if preprocess == "folder":
        return clip.picture_features(images)
    return clip.prepared_features(prepared("clip224", images, clip.size))
