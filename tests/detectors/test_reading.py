"""A detector that raises, or gives what is no number, has failed on that image alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from shown import noise
from torch import Tensor

from expunge.detectors.base import Box, Reading
from expunge.detectors.reading import read
from expunge.errors import ExpungeError, UserError


class Brightness:
    """Sees light in bright images; breaks over dark ones, and gives nonsense about middling ones."""

    name, labels, floor, finds_boxes = "brightness@0", ("light",), 0.0, False

    def __init__(self, nonsense: Reading | None = None) -> None:
        self._nonsense = nonsense

    def __call__(self, images: Tensor) -> list[Reading]:
        means = images.flatten(1).mean(1).tolist()
        if any(mean < 0.2 for mean in means):
            raise ValueError("too dark")
        return [Reading({"light": mean}) if mean > 0.6 or self._nonsense is None else self._nonsense for mean in means]


def flat(*values: float) -> Tensor:
    return torch.stack([torch.full((3, 8, 8), value) for value in values])


def test_a_detector_that_raises_spoils_one_image_alone() -> None:
    readings = read(Brightness(), flat(0.9, 0.1, 0.8))
    assert [reading.error for reading in readings] == ["", "ValueError: too dark", ""]
    assert [reading.scores.get("light") for reading in readings] == [pytest.approx(0.9), None, pytest.approx(0.8)]


@pytest.mark.parametrize("nonsense", [
    Reading({"light": float("nan")}), Reading({"light": float("inf")}), Reading({"dark": 0.5}),
    Reading({"light": 0.5}, (Box("light", 0.5, (0, 0, float("nan"), 1)),)),
    Reading({}, (Box("dark", 0.5, (0, 0, 1, 1)),))])
def test_what_is_no_number_or_no_label_is_an_error_and_no_finding(nonsense: Reading) -> None:
    readings = read(Brightness(nonsense), flat(0.9, 0.5))
    assert not readings[0].error
    assert "does not know" in readings[1].error
    assert not readings[1].scores


def test_an_image_that_is_no_number_is_never_shown() -> None:
    readings = read(Brightness(), flat(0.9, float("nan"), float("inf")))
    assert [bool(reading.error) for reading in readings] == [False, True, True]


def test_readings_come_in_the_images_order_whatever_the_chunk() -> None:
    images = flat(0.9, 0.8, 0.7, 0.65, 0.95)
    assert read(Brightness(), images, chunk=2) == read(Brightness(), images)
    assert read(Brightness(), images[:0]) == []


def test_too_few_readings_are_an_error_of_every_image() -> None:
    class Lazy(Brightness):
        def __call__(self, images: Tensor) -> list[Reading]:
            return []

    assert all("0 readings" in reading.error for reading in read(Lazy(), flat(0.9, 0.8)))


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (1, 4, 8, 8), (3, 8, 8)])
def test_grey_and_alpha_are_brought_to_three_channels_by_whoever_reads_the_file(shape: tuple[int, ...]) -> None:
    with pytest.raises(ExpungeError, match="red, green and blue"):
        read(Brightness(), torch.ones(shape))
    assert noise(1).shape[1] == 3


@pytest.mark.parametrize("images", [torch.rand(2, 3, 8, 8) * 255, (torch.rand(2, 3, 8, 8) * 255).byte(),
                                    torch.rand(2, 3, 8, 8) - 0.5])
def test_images_in_other_units_are_refused_and_not_cut_off(images: Tensor) -> None:
    with pytest.raises(UserError, match="with values from"):
        read(Brightness(), images)


def test_what_is_no_tensor_is_told() -> None:
    with pytest.raises(UserError, match="images of type ndarray"):
        read(Brightness(), np.zeros((1, 3, 8, 8)))  # type: ignore[arg-type]
