"""The second judge: heads that fit one network, labels with several rows, honest abstention."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from second_extra import needs_second

from expunge.errors import ModelError
from expunge.metrics.imagenet import ImageNetFeatures
from expunge.metrics.imagenet_judge import ImageNetJudge, chances
from expunge.metrics.judging import ask
from expunge.tiny.emoji import WEIGHTS
from expunge.tiny.world import STYLES, THINGS


@pytest.fixture
def heads(tmp_path: Path) -> Path:
    for name in ("second.json", "second.safetensors"):
        shutil.copyfile(WEIGHTS / name, tmp_path / name)
    return tmp_path


def rewrite(folder: Path, **values: object) -> None:
    file = folder / "second.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_rows_of_one_label_are_added() -> None:
    p = chances(torch.tensor([[0.0, 1.0, 2.0, 1.0]]), ("a", "b", "c", "b"), 0.5)
    raw = torch.tensor([0.0, 2.0, 4.0, 2.0]).softmax(0)
    assert torch.allclose(p, torch.stack([raw[0], raw[1] + raw[3], raw[2]])[None])


@needs_second
def test_it_answers_object_and_style_and_no_background() -> None:
    judge = ImageNetJudge(WEIGHTS)
    assert judge.questions == {"object": (*THINGS, "something else"), "style": (*STYLES, "something else")}
    for p in judge.probabilities(torch.rand(3, 3, 64, 64)).values():
        assert torch.allclose(p.sum(1), torch.ones(3), atol=1e-5)
    assert judge(torch.rand(0, 3, 64, 64)) == []


@needs_second
def test_purple_noise_and_bare_colours_are_called_by_no_name() -> None:
    draw = torch.Generator().manual_seed(0)
    purple = torch.tensor([0.6, 0.3, 0.8])[:, None, None]
    plain = torch.rand(24, 3, 1, 1, generator=draw).expand(-1, -1, 64, 64)
    noise = (purple + torch.linspace(0.02, 0.4, 24)[:, None, None, None] *
             torch.randn(24, 3, 64, 64, generator=draw)).clamp(0, 1)
    for pictures in (noise, plain, torch.rand(24, 3, 64, 64, generator=draw)):
        answers = ImageNetJudge(WEIGHTS)(pictures)
        assert sum(a.answers.get("object", "something else") != "something else" for a in answers) <= 1


@needs_second
def test_heads_of_another_network_are_refused(heads: Path) -> None:
    rewrite(heads, backbone="0" * 64)
    with pytest.raises(ModelError, match="another network"):
        ImageNetJudge(heads)


@needs_second
def test_missing_or_damaged_heads_are_refused(heads: Path, tmp_path: Path) -> None:
    (heads / "second.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="cannot be read"):
        ImageNetJudge(heads)
    with pytest.raises(ModelError, match="cannot be read"):
        ImageNetJudge(tmp_path / "nowhere")


@needs_second
def test_its_name_changes_with_whatever_decides_an_answer(heads: Path) -> None:
    features = ImageNetFeatures()
    first = ImageNetJudge(heads, features).name
    assert first == ImageNetJudge(WEIGHTS, features).name
    rewrite(heads, threshold={"object": 0.9, "style": 0.5})
    assert ImageNetJudge(heads, features).name != first


@needs_second
def test_below_the_threshold_it_abstains(heads: Path) -> None:
    rewrite(heads, threshold={"object": 1.1, "style": 1.1})
    answer = ImageNetJudge(heads)(torch.rand(1, 3, 64, 64))[0]
    assert not answer.answers
    assert set(answer.confidence) == {"object", "style"}


@needs_second
def test_a_picture_that_is_no_number_is_a_failure_and_spoils_no_other() -> None:
    pictures = torch.rand(2, 3, 64, 64)
    pictures[0, 0, 0, 0] = torch.nan
    bad, good = ask(ImageNetJudge(WEIGHTS), pictures)
    assert "not numbers" in bad.error
    assert not good.error
