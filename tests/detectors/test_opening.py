"""Detectors by name: what is missing is said with its role, its source and its licence, and nothing stands in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from expunge.detectors.base import DetectorSettings
from expunge.detectors.opening import open_detector
from expunge.detectors.rule import Rule
from expunge.errors import UserError
from expunge.registry import DETECTORS


@pytest.mark.parametrize("name", DETECTORS.names())
def test_every_entry_is_settings_that_open_it_under_its_own_name(name: str) -> None:
    kind = DETECTORS.get(name)
    assert issubclass(kind, DetectorSettings)
    assert kind.kind == name
    assert all(need.what for need in kind.needs)
    assert all(isinstance(rule, Rule) and rule.labels for rule in kind.rules.values())


def test_a_role_without_a_file_says_which_and_where_it_is_published(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"role 'weights'.*classifier_model\.onnx.*GPL-3\.0.*downloaded"):
        open_detector("nudenet-classifier")
    with pytest.raises(UserError, match="is none"):
        open_detector("image-classification", {}, {"folder": tmp_path / "nothing"})
    with pytest.raises(UserError, match="roles of the detector q16: prompts, folder"):
        open_detector("q16", {}, {"weights": tmp_path})
    with pytest.raises(UserError, match="it takes no files"):
        open_detector("emoji-judge", {}, {"weights": tmp_path})


def test_an_unknown_name_is_told_with_the_closest() -> None:
    with pytest.raises(UserError, match="did you mean 'nudenet'"):
        open_detector("nudnet")


@pytest.mark.parametrize("name", ["emoji-judge", "imagenet-judge"])
def test_the_embedded_judges_say_the_same_as_detectors(name: str) -> None:
    from expunge.detectors.reading import read
    from expunge.metrics.imagenet import second_missing
    from expunge.metrics.imagenet_judge import ImageNetJudge
    from expunge.metrics.judge import EmojiJudge
    from expunge.tiny.emoji import WEIGHTS

    if name == "imagenet-judge" and second_missing():
        pytest.skip(second_missing())
    judge = EmojiJudge(WEIGHTS) if name == "emoji-judge" else ImageNetJudge(WEIGHTS)
    images = torch.rand(12, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    images[6:] = torch.nn.functional.interpolate(images[6:, :, :3, :3], 64)
    for question in ("object", "style"):
        detector = open_detector(name, {"question": question})
        assert detector.name == judge.name
        for reading, answer in zip(read(detector, images), judge(images), strict=True):
            assert max(reading.scores.values()) == pytest.approx(answer.confidence[question], abs=1e-4)
            assert bool(reading.note) == (question not in answer.answers)
            if not reading.note:
                assert Rule(labels=(answer.answers[question],), rule="top").shows(reading)
