"""A classifier of torchvision by the name of its architecture, with supplied weights and torchvision's own transforms.

For example resnet50 with resnet50-11ad3fa6.pth (IMAGENET1K_V2), which ESD, UCE and others judge objects by; or the
ResNet-50 of Six-CD with 101 characters, which is stretched to 224 x 224 and not normalised.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from expunge.config import knob
from expunge.detectors.base import Detector
from expunge.detectors.classifiers import Classified, HeadSettings, supplied_labels
from expunge.errors import UserError, install


class TorchvisionHead(HeadSettings):
    """torchvision.models by name."""

    kind: ClassVar[str] = "torchvision"
    extra: ClassVar[str] = "lpips"
    licence: ClassVar[str] = "BSD 3-clause (the library); weights as their authors say"

    transforms: str = knob("DEFAULT", "whose transforms, by the library's name for a set of weights, such as "
                                      "IMAGENET1K_V1; the weights themselves are those that are supplied")

    def open(self, files: Mapping[str, Path]) -> Detector:
        """See `DetectorSettings.open`. Labels that nobody gives are ImageNet's, as the library names them."""
        models = _models()
        try:
            published: Any = models.get_model_weights(self.architecture)[self.transforms]
        except (ValueError, KeyError) as error:
            raise UserError(f"torchvision knows no {self.architecture!r} with transforms {self.transforms!r}",
                            accepted="an image classifier of torchvision.models, such as resnet50 with DEFAULT"
                            ) from error
        labels = supplied_labels(self, files) or tuple(published.meta.get("categories", ()))
        network = self.loaded(models.get_model(self.architecture, weights=None, num_classes=len(labels)), files)
        return Classified(self.named(files), labels, self.preparing(published.transforms()), network)


def _models() -> Any:
    try:
        from torchvision import models
    except (ImportError, RuntimeError) as error:  # a torchvision built for another torch raises RuntimeError
        raise UserError(f"torchvision cannot be imported: {error}", accepted="an installed torchvision that fits torch",
                        remedy=install("lpips")) from error
    return models
