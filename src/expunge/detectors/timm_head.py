"""A classifier of timm by the name of its architecture, with a supplied state dict; nothing is downloaded.

For example UnlearnCanvas: vit_large_patch16_224.augreg_in21k with a head for 51 styles or 20 objects, key
model_state_dict, preprocess stretch224 with mean and deviation 0.5. Its own script first downloads weights that it then
throws away.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from expunge.detectors.base import Detector
from expunge.detectors.classifiers import Classified, HeadSettings, supplied_labels
from expunge.errors import UserError, install


class TimmHead(HeadSettings):
    """timm.create_model by name."""

    kind: ClassVar[str] = "timm"
    extra: ClassVar[str] = "timm"
    licence: ClassVar[str] = "Apache-2.0 (the library); weights as their authors say"

    def open(self, files: Mapping[str, Path]) -> Detector:
        """See `DetectorSettings.open`."""
        timm = _timm()
        labels = supplied_labels(self, files)
        if not labels:
            raise UserError("the detector timm has no labels", accepted="labels by index",
                            remedy="give them as `labels`, or as a file of the role labels")
        try:
            network = timm.create_model(self.architecture, pretrained=False, num_classes=len(labels))
        except RuntimeError as error:
            raise UserError(f"timm knows no {self.architecture!r}: {error}",
                            accepted="a name of timm.list_models()") from error
        own = timm.data.create_transform(**timm.data.resolve_model_data_config(network), is_training=False)
        return Classified(self.named(files), labels, self.preparing(own), self.loaded(network, files))


def _timm() -> Any:
    try:
        import timm
    except (ImportError, RuntimeError) as error:  # it imports torchvision, which may be built for another torch
        raise UserError(f"timm cannot be imported: {error}", accepted="an installed timm, with a torchvision that fits "
                        "torch", remedy=install("timm")) from error
    return timm
