"""ONNX files, run on the CPU by onnxruntime, one image at a time: a reading never depends on its neighbours."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from expunge.detectors.base import Reading
from expunge.detectors.preprocess import prepared
from expunge.errors import ModelError, UserError, install


class OnnxNetwork:
    """An opened ONNX file with one input. Attributes: shape, of the input, None where it is free."""

    def __init__(self, file: Path, extra: str) -> None:
        """Open `file`.

        Raises:
            UserError: onnxruntime is not installed; `extra` brings it.
            ModelError: the file is no ONNX network with one input.
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise UserError("onnxruntime is not installed", accepted=f"the extra `{extra}`",
                            remedy=install(extra)) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # what the runtime raises depends on where the file is damaged
            raise ModelError(f"{file} cannot be read: {error}", accepted="an ONNX network") from error
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            raise ModelError(f"{file} has {len(inputs)} inputs", accepted="an ONNX network with one")
        self._input = inputs[0].name
        self.shape: tuple[int | None, ...] = tuple(x if isinstance(x, int) else None for x in inputs[0].shape)

    def __call__(self, prepared: Tensor) -> NDArray[np.float32]:
        """The first output of each row of `prepared`, stacked: float32 (B, ...)."""
        rows: list[Any] = [self._session.run(None, {self._input: row[None].numpy()})[0] for row in prepared]
        return np.concatenate(rows) if rows else np.zeros((0, 0), dtype=np.float32)


class OnnxClassifier:
    """A network of probabilities, (B, labels)."""

    floor, finds_boxes = 0.0, False

    def __init__(self, name: str, network: OnnxNetwork, preprocess: str, labels: tuple[str, ...]) -> None:
        self.name, self.labels, self._network, self._preprocess = name, labels, network, preprocess

    def __call__(self, images: Tensor) -> list[Reading]:
        """One reading per image."""
        out = self._network(prepared(self._preprocess, images))
        if len(images) and out.shape[1:] != (len(self.labels),):
            raise ModelError(f"an output of shape {out.shape[1:]}", accepted=f"{len(self.labels)} probabilities")
        return [Reading(dict(zip(self.labels, map(float, row), strict=True))) for row in out]


def installed_file(package: str, inner: str, extra: str) -> Path:
    """A file of an installed package, which is not imported.

    Raises:
        UserError: the package is not installed. ModelError: it has no such file.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"the package {package.replace('_', '-')} is not installed", accepted=f"the extra `{extra}`",
                        remedy=install(extra))
    file = Path(next(iter(spec.submodule_search_locations))) / inner
    if not file.is_file():
        raise ModelError(f"the installed {package.replace('_', '-')} has no {inner}",
                         accepted="the release that pyproject.toml names", remedy=install(extra))
    return file
