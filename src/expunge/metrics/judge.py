"""A small convolutional judge: which object, which style, which background; calibrated; may abstain.

It is trained by `expunge.tiny.bake` on the drawings themselves, never on what a diffusion model drew. Besides the
world's objects it knows "something else". An answer below its question's threshold is an abstention.

It looks at an image in several views (`metrics/views.py`): a thing that is seen in one of them is seen, so that a
darker image or one in a frame does not pass for one without the thing. Style and background are those of the image
as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from expunge import untrusted
from expunge.errors import ModelError
from expunge.files import file_digest, text_digest
from expunge.metrics.base import NO_NUMBERS
from expunge.metrics.views import KINDS, VERSION, Step, seen, strongest
from expunge.pixels import Pictures
from expunge.records import Detection

ELSE = "something else"
"""The answer to "which object?" for anything outside the world."""


class JudgeNet(nn.Module):
    """Four stages of two convolutions each, group-normalised; one linear head per question.

    Input float32 (B, 3, 64, 64) in [0, 1]. `features` gives (B, 256); `maps` the four stages' outputs.
    """

    widths = (32, 64, 128, 256)

    def __init__(self, labels: Mapping[str, int]) -> None:
        super().__init__()
        stages, before = [], 3
        for width in self.widths:
            stages.append(nn.Sequential(
                nn.Conv2d(before, width, 3, stride=2, padding=1), nn.GroupNorm(8, width), nn.ReLU(),
                nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(8, width), nn.ReLU()))
            before = width
        self.stages = nn.ModuleList(stages)
        self.heads = nn.ModuleDict({question: nn.Linear(before, count) for question, count in labels.items()})

    def maps(self, pictures: Tensor) -> list[Tensor]:
        """The stages' outputs: (B, 32, 32, 32), (B, 64, 16, 16), (B, 128, 8, 8), (B, 256, 4, 4)."""
        out, x = [], pictures * 2 - 1
        for stage in self.stages:
            x = stage(x)
            out.append(x)
        return out

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """Logits (B, labels) by question."""
        features = self.maps(pictures)[-1].mean((2, 3))
        return {question: head(features) for question, head in self.heads.items()}


@dataclass(frozen=True)
class Looking:
    """How a trained net is asked.

    Attributes:
        temperature: by question, what its logits are divided by.
        views: views besides the image as it is; each a list of steps.
        handicap: what "something else" gets on top in these views (calibrated logit); see `views.strongest`.
    """

    temperature: Mapping[str, float]
    views: Sequence[Sequence[Step]]
    handicap: float

    @torch.no_grad()
    def logits(self, net: JudgeNet, pictures: Tensor) -> dict[str, Tensor]:
        """Logits (V, B, labels) of the object in all views in one pass, (1, B, labels) of any other question."""
        every = torch.cat([pictures, *(seen(pictures, steps) for steps in self.views)])
        views = (len(self.views) + 1, len(pictures))
        return {question: value.unflatten(0, views)[:views[0] if question == "object" else 1]
                for question, value in net(every).items()}

    def probabilities(self, logits: Mapping[str, Tensor], nothing: int) -> dict[str, Tensor]:
        """Calibrated probabilities (B, labels) by question from `logits`; `nothing`: index of "something else"."""
        return {question: strongest(value / self.temperature[question], nothing, self.handicap)
                if question == "object" else (value[0] / self.temperature[question]).softmax(1)
                for question, value in logits.items()}


class EmojiJudge:
    """The judge on disk: `judge.safetensors` and `judge.json` (labels, temperatures, thresholds, views, how it scored).

    It is at once the detector, the feature extractor for FID and KID, and a perceptual distance. `hash` is of all that
    decides an answer: the weights, and what `judge.json` says but for the scores.
    """

    width = JudgeNet.widths[-1]

    def __init__(self, folder: Path, batch: int = 128) -> None:
        """Load from `folder`. Raises ModelError if a file is missing or damaged."""
        try:
            self.card: dict[str, Any] = untrusted.json_of(folder / "judge.json")
            weights = untrusted.all_tensors(folder / "judge.safetensors")
            decides = {key: self.card[key] for key in ("labels", "temperature", "threshold", "views", "handicap")}
            self._looking = Looking(self.card["temperature"], self.card["views"], self.card["handicap"])
            self._nothing = self.card["labels"]["object"].index(ELSE)
            unknown = {kind for steps in self._looking.views for kind, _ in steps} - set(KINDS)
        except Exception as error:
            raise ModelError(f"the judge in {folder} cannot be read: {error}",
                             remedy="install expunge again, or bake the model again") from error
        if unknown:
            raise ModelError(f"the judge in {folder} asks for views {', '.join(sorted(unknown))}",
                             accepted=", ".join(KINDS), remedy="use the version of expunge that baked it")
        weights_hash = file_digest(folder / "judge.safetensors")
        self.hash = text_digest(f"{weights_hash}/{VERSION}/{json.dumps(decides, sort_keys=True)}")
        self.questions: dict[str, tuple[str, ...]] = {q: tuple(names) for q, names in self.card["labels"].items()}
        self.name = f"emoji-judge@{self.hash[:8]}"
        self._net = JudgeNet({question: len(names) for question, names in self.questions.items()}).eval()
        self._net.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
        self._batch = batch

    def probabilities(self, pictures: Tensor) -> dict[str, Tensor]:
        """Calibrated probabilities (B, labels) by question, for images (B, 3, H, W) in [0, 1].

        Those of the object are of the view that is surest of some thing, those of style and background of the image
        as it is.
        """
        parts = [self._looking.probabilities(self._looking.logits(self._net, _native(chunk)), self._nothing)
                 for chunk in pictures.split(self._batch)]
        return {q: torch.cat([part[q] for part in parts]) for q in self.questions}

    def __call__(self, pictures: Tensor) -> list[Detection]:
        if not len(pictures):
            return []
        bad = ~torch.isfinite(pictures).flatten(1).all(1)
        probabilities = self.probabilities(pictures.nan_to_num())
        answers = []
        for i in range(len(pictures)):
            if bad[i]:
                answers.append(NO_NUMBERS)
                continue
            top = {q: p[i].max(0) for q, p in probabilities.items()}
            confidence = {q: round(float(value), 4) for q, (value, _) in top.items()}
            labels = {q: self.questions[q][int(index)] for q, (_, index) in top.items()
                      if confidence[q] >= self.card["threshold"][q]}
            answers.append(Detection(answers=labels, confidence=confidence))
        return answers

    @torch.no_grad()
    def features(self, pictures: Pictures) -> Tensor:
        """float32 (B, 256): the last stage, averaged over space."""
        return torch.cat([self._net.maps(_native(chunk))[-1].mean((2, 3)) for chunk in pictures.split(self._batch)])

    @torch.no_grad()
    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """float32 (B,): squared difference of unit-normalised activations, averaged over space, summed over stages.

        Source: Zhang et al. 2018 (LPIPS), eq. 1. Differs: the judge's features, all channel weights equal to one.
        """
        out = []
        for x, y in zip(a.split(self._batch), b.split(self._batch), strict=True):
            pairs = zip(self._net.maps(_native(x)), self._net.maps(_native(y)), strict=True)
            out.append(torch.stack([(F.normalize(f, dim=1) - F.normalize(g, dim=1)).square().sum(1).mean((1, 2))
                                    for f, g in pairs]).sum(0))
        return torch.cat(out)


def _native(pictures: Tensor) -> Tensor:
    if pictures.shape[-2:] == (64, 64):
        return pictures
    return F.interpolate(pictures, (64, 64), mode="bilinear", antialias=True, align_corners=False)
