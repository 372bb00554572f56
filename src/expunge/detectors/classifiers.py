"""What classifiers of whole images share: labels by index, weights from a file, probabilities as readings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from expunge import untrusted
from expunge.config import knob
from expunge.detectors.base import DetectorSettings, Need, Reading
from expunge.detectors.preprocess import normalised, pil_images, prepared
from expunge.errors import ModelError

BATCH = 16
WEIGHTS = "a state dict (safetensors, or a PyTorch file that holds nothing but tensors and plain values)"


class HeadSettings(DetectorSettings):
    """Settings of a named architecture with supplied weights."""

    needs: ClassVar[tuple[Need, ...]] = (
        Need("weights", WEIGHTS), Need("labels", "the labels by index: a text file with one in each line, or a JSON "
                                       "list; not needed where they are settings", optional=True))

    architecture: str = knob(..., "name of the architecture, in the library's own words", min_length=1)
    labels: tuple[str, ...] = knob((), "labels by index")
    key: str = knob("", "where in the file the state dict is, such as model_state_dict; empty: at the top")
    strip: str = knob("", "what all its names begin with and the architecture's do not, such as module.")
    preprocess: Literal["own", "stretch224"] = knob(
        "own", "how images are prepared: as the library does for this architecture, or stretched to 224 x 224")
    mean: tuple[float, float, float] = knob((0.0, 0.0, 0.0), "stretch224: what is subtracted from each channel")
    deviation: tuple[float, float, float] = knob((1.0, 1.0, 1.0), "stretch224: what each channel is divided by")

    def stretched(self, images: Tensor) -> Tensor:
        """(B, 3, 224, 224) under `stretch224`."""
        return normalised(prepared("stretch224", images), self.mean, self.deviation)

    def preparing(self, own: Callable[[Any], Tensor]) -> Callable[[Tensor], Tensor]:
        """What prepares images: the library's own transform of one of PIL's images, or `stretched`."""
        if self.preprocess == "own":
            return lambda images: torch.stack([own(image) for image in pil_images(images)])
        return self.stretched

    def loaded(self, network: nn.Module, files: Mapping[str, Path]) -> nn.Module:
        """The network with the supplied weights, all of which must fit, ready to be asked."""
        fill(network, state_dict(files["weights"], self.key, self.strip), self.architecture)
        return network.float().eval().requires_grad_(False)


class Classified:
    """A detector made of a network that gives logits. Attributes: see `Detector`."""

    floor, finds_boxes = 0.0, False

    def __init__(self, name: str, labels: Sequence[str], prepare: Callable[[Tensor], Tensor],
                 logits: Callable[[Tensor], Tensor], several: bool = False) -> None:
        """Make it.

        Args:
            labels: by index; equal ones are told apart by their index.
            prepare: images (B, 3, H, W) in [0, 1] to what the network reads. logits: of that, (B, labels).
            several: each label is a question of its own (sigmoid), instead of one among all (softmax).
        """
        self.name, self.labels = name, told_apart(labels)
        self._prepare, self._logits, self._several = prepare, logits, several

    @torch.no_grad()
    def __call__(self, images: Tensor) -> list[Reading]:
        """One reading per image."""
        if not len(images):
            return []
        logits = torch.cat([self._logits(self._prepare(chunk)) for chunk in images.split(BATCH)]).float()
        if logits.shape != (len(images), len(self.labels)):
            raise ModelError(f"{self.name} gives {tuple(logits.shape[1:])} numbers", accepted=f"{len(self.labels)}")
        chances = logits.sigmoid() if self._several else logits.softmax(1)
        return [Reading(dict(zip(self.labels, row, strict=True))) for row in chances.tolist()]


def told_apart(labels: Sequence[str]) -> tuple[str, ...]:
    """The labels, those that several indices share with the index behind it ("crane #134"; ImageNet has two)."""
    counts = Counter(labels)
    return tuple(f"{label} #{index}" if counts[label] > 1 else label for index, label in enumerate(labels))


def supplied_labels(settings: HeadSettings, files: Mapping[str, Path]) -> tuple[str, ...]:
    """Labels by index, from the settings or the file of the role `labels`; () where neither says.

    Raises:
        ModelError: the file is no list of labels.
    """
    if settings.labels or "labels" not in files:
        return settings.labels
    file = files["labels"]
    try:
        text = untrusted.text(file, "utf-8-sig")
        labels = untrusted.json_in(text) if file.suffix == ".json" else [
            line.strip() for line in text.splitlines() if line]
    except (OSError, ValueError) as error:
        raise ModelError(f"labels in {file} cannot be read: {error}", accepted="one in each line, or a JSON list"
                         ) from error
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) and label for label in labels):
        raise ModelError(f"{file} is no list of labels", accepted="one in each line, or a JSON list of texts")
    return tuple(labels)


def state_dict(file: Path, key: str = "", strip: str = "") -> dict[str, Tensor]:
    """Tensors by name from a file, opened so that it cannot run anything.

    Raises:
        ModelError: it cannot be read so, is no state dict, or holds what is no weight.
    """
    try:
        state: Any = untrusted.all_tensors(file) if file.suffix == ".safetensors" else untrusted.pickled_tensors(file)
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error}", accepted=WEIGHTS,
                         remedy="a file with a whole pickled model can run any code; save its state dict") from error
    if key:
        if not isinstance(state, Mapping) or key not in state:
            known = ", ".join(map(str, [*state][:8])) if isinstance(state, Mapping) else type(state).__name__
            raise ModelError(f"{file} has no {key!r}", accepted=known, remedy="set `key`")
        state = state[key]
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        some = ", ".join(map(str, [*state][:8])) if isinstance(state, Mapping) else type(state).__name__
        raise ModelError(f"{file} is no state dict ({some})", accepted=WEIGHTS, remedy="set `key` to where it is")
    if odd := untrusted.unlike_weights({str(name): str(tensor.dtype) for name, tensor in state.items()}):
        raise ModelError(f"{file}: {odd}", accepted=untrusted.WEIGHTS)
    return {str(name).removeprefix(strip): tensor for name, tensor in state.items()}


def fill(network: nn.Module, state: Mapping[str, Tensor], architecture: str) -> None:
    """Load `state`, of which everything must fit.

    Raises:
        ModelError: something is missing, too much, or of another shape.
    """
    try:
        network.load_state_dict(dict(state), strict=True)
    except RuntimeError as error:
        raise ModelError(f"the weights are not those of {architecture}: {' '.join(str(error).split())[:300]}",
                         accepted="the weights of that architecture, with a head for these labels",
                         remedy="check architecture, labels, key and strip") from error
