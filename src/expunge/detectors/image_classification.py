"""Any image classifier saved by transformers: a folder with its image processor, safetensors alone, no code of its own.

Images are resized by PIL, as the published pipelines did, whether torchvision is installed or not; the few processors
that exist for torchvision alone have another name for it.

For example the 129-artist ViT of UnlearnDiffAtk, or microsoft/resnet-50 ("V1.5", whose numbers are not torchvision's).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from expunge.detectors.base import Detector, DetectorSettings, Need
from expunge.detectors.classifiers import Classified
from expunge.detectors.preprocess import pil_images
from expunge.errors import ModelError


def resizer(processor: Any) -> str:
    """Which library an image processor resizes with: they differ by a few grey values."""
    lineage = {base.__name__ for base in type(processor).__mro__}
    return "torchvision" if lineage & {"TorchvisionBackend", "BaseImageProcessorFast"} else "pil"


class ImageClassification(DetectorSettings):
    """AutoModelForImageClassification and AutoImageProcessor from a folder."""

    kind: ClassVar[str] = "image-classification"
    needs: ClassVar[tuple[Need, ...]] = (Need(
        "folder", "a transformers folder: config.json, model.safetensors, preprocessor_config.json", folder=True),)

    def open(self, files: Mapping[str, Path]) -> Detector:
        """See `DetectorSettings.open`."""
        folder = files["folder"]
        lacking = [name for name in ("config.json", "preprocessor_config.json") if not (folder / name).is_file()]
        if lacking or not any(folder.glob("*.safetensors")):
            raise ModelError(f"no image classifier in {folder}", accepted="a folder with config.json, "
                             "model.safetensors and preprocessor_config.json",
                             remedy="pickled weights are never read; convert them to safetensors first")
        import transformers
        from transformers import AutoImageProcessor, AutoModelForImageClassification

        by_pil = {"backend": "pil"} if int(transformers.__version__.partition(".")[0]) >= 5 else {"use_fast": False}
        try:
            processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False,
                                                           **by_pil)
            model, told = AutoModelForImageClassification.from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, local_files_only=True, trust_remote_code=False,
                output_loading_info=True)
        except Exception as error:  # the loaders share no base class
            raise ModelError(f"the classifier in {folder} cannot be read: {error}") from error
        if told["missing_keys"]:  # transformers fills these at random, with no more than a warning
            raise ModelError(f"the weights in {folder} lack {', '.join(sorted(told['missing_keys'])[:5])}",
                             accepted="weights with their classification head")
        network: Any = model.float().eval().requires_grad_(False)
        names = {int(index): str(label) for index, label in network.config.id2label.items()}

        def prepare(images: Tensor) -> Tensor:
            pixels: Tensor = processor(images=pil_images(images), return_tensors="pt")["pixel_values"]
            return pixels.float()

        labels = [names[index] for index in range(len(names))]
        return Classified(self.named(files, resized_by=resizer(processor)), labels, prepare,
                          lambda pixels: network(pixel_values=pixels).logits,
                          network.config.problem_type == "multi_label_classification")
