"""A judge made of linear heads on ImageNet features: nobody's kin, for nothing of ours trained what it looks with.

The heads are small and ship with the embedded world; the network below them is an installed package. Heads fit the one
network whose features they were trained on, and no other is accepted. They read square roots of the features, which
are averages over space of what is seldom there: so a small thing counts beside a large one. The features lose colour,
so no question about backgrounds is asked. Several rows of a head may carry one label ("something else" has one row for
each kind of it); their probabilities are added.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from expunge import untrusted
from expunge.errors import ModelError
from expunge.files import file_digest
from expunge.metrics.base import NO_NUMBERS
from expunge.metrics.imagenet import ImageNetFeatures
from expunge.records import Detection


class ImageNetJudge:
    """`Judge` on disk: `second.safetensors` and `second.json` (labels, temperature, threshold, backbone, scores).

    Attributes:
        name: "imagenet-judge@<8 of a hash over heads, labels, temperature, threshold and backbone>".
        questions: labels by question, "something else" among them.
        card: what second.json holds, how the judge scored included.
    """

    def __init__(self, folder: Path, features: ImageNetFeatures | None = None) -> None:
        """Load heads from `folder`, for `features` (by default the installed package's).

        Raises:
            UserError: the network's package is not installed.
            ModelError: the heads are missing or damaged, or were trained on another network.
        """
        self._features = features or ImageNetFeatures()
        try:
            self.card: dict[str, Any] = untrusted.json_of(folder / "second.json")
            heads = untrusted.all_tensors(folder / "second.safetensors")
            self._heads = {name: tensor.float() for name, tensor in heads.items()}
            digest = file_digest(folder / "second.safetensors")
            self._rows = {q: tuple(rows) for q, rows in self.card["labels"].items()}
            decides = [digest, self.card["backbone"], self._rows, self.card["temperature"], self.card["threshold"]]
        except Exception as error:
            raise ModelError(f"the second judge in {folder} cannot be read: {error}",
                             remedy="install expunge again, or bake the model again") from error
        if self.card["backbone"] != self._features.hash:
            raise ModelError(f"the second judge's heads were trained on another network ({self.card['backbone'][:8]})",
                             accepted=f"{self._features.name}, which is installed",
                             remedy="install the release that pyproject.toml names, or bake the model again")
        self.questions: dict[str, tuple[str, ...]] = {q: tuple(dict.fromkeys(rows)) for q, rows in self._rows.items()}
        self.name = f"imagenet-judge@{hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:8]}"

    def features(self) -> ImageNetFeatures:
        """What it looks with."""
        return self._features

    def probabilities(self, pictures: Tensor) -> dict[str, Tensor]:
        """Calibrated probabilities (B, labels) by question, for images (B, 3, H, W) in [0, 1]."""
        return self.from_features(self._features(pictures))

    def from_features(self, features: Tensor) -> dict[str, Tensor]:
        """The same for features (B, 1280) that are there already."""
        x = evened(features)
        return {q: chances(x @ self._heads[f"{q}.weight"].T + self._heads[f"{q}.bias"], rows,
                           self.card["temperature"][q]) for q, rows in self._rows.items()}

    def __call__(self, pictures: Tensor) -> list[Detection]:
        """One answer per image; a label whose probability is below the threshold is an abstention."""
        bad = ~torch.isfinite(pictures).flatten(1).all(1)
        found = self.probabilities(pictures.nan_to_num())
        return [NO_NUMBERS if bad[i] else
                self._answer({q: p[i] for q, p in found.items()}) for i in range(len(pictures))]

    def _answer(self, found: Mapping[str, Tensor]) -> Detection:
        top = {q: p.max(0) for q, p in found.items()}
        confidence = {q: round(float(value), 4) for q, (value, _) in top.items()}
        return Detection(answers={q: self.questions[q][int(index)] for q, (_, index) in top.items()
                                  if confidence[q] >= self.card["threshold"][q]}, confidence=confidence)


def evened(features: Tensor) -> Tensor:
    """What heads read: square roots of features (B, 1280), which are at least 0."""
    return (features + 1e-4).sqrt()


def chances(logits: Tensor, rows: Sequence[str], temperature: float) -> Tensor:
    """Probabilities (B, different labels) from logits (B, rows); rows of one label are added, in order of appearance.
    """
    names = list(dict.fromkeys(rows))
    index = torch.tensor([names.index(name) for name in rows])
    p = (logits / temperature).softmax(1)
    return torch.zeros(len(p), len(names)).index_add_(1, index, p)
