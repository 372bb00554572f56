"""CLIP from a folder: a real, very small one with random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from expunge.errors import ModelError, UserError
from expunge.metrics.align import alignment_scores
from expunge.metrics.clip import SOMETHING_ELSE, ClipDistance, ClipJudge, LocalClip, clip_folder
from expunge.metrics.integrity import ImageSet
from expunge.records import ImageRecord, Prompt, Role, Sampler

SIZE = 16


@pytest.fixture
def clip(clip_files: Path) -> LocalClip:
    return LocalClip(clip_files)


def pictures(n: int, side: int = SIZE, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(seed))


def test_cosines_are_those_of_transformers(clip: LocalClip, clip_files: Path) -> None:
    from transformers import CLIPModel, CLIPTokenizer

    model, tokenizer = CLIPModel.from_pretrained(clip_files), CLIPTokenizer.from_pretrained(clip_files)
    texts, x = ["a church", "a house by the sea", "a church"], pictures(3)
    ids = tokenizer(texts, padding="max_length", max_length=16, return_tensors="pt")
    with torch.no_grad():
        out = model(input_ids=ids.input_ids, pixel_values=x * 2 - 1)
    expected = (F.normalize(out.image_embeds, dim=-1) * F.normalize(out.text_embeds, dim=-1)).sum(1)
    assert torch.allclose(clip(x, texts), expected, atol=1e-5)


def test_a_batch_is_its_pictures(clip_files: Path) -> None:
    x, texts = pictures(5), ["a dog", "a church", "a dog", "a house", "a dog"]
    assert torch.allclose(LocalClip(clip_files, batch=2)(x, texts), LocalClip(clip_files, batch=5)(x, texts), atol=1e-5)


def test_pictures_of_any_shape_are_brought_to_the_towers_size(clip: LocalClip) -> None:
    assert clip.picture_features(pictures(2, 40)).shape == (2, 8)
    wide = torch.rand(1, 3, 24, 48)
    middle = F.interpolate(wide, (16, 32), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)[..., 8:24]
    assert torch.allclose(clip.picture_features(wide), clip.picture_features(middle), atol=1e-5)
    assert clip(torch.zeros(0, 3, 16, 16), []).shape == (0,)


def test_preprocessing_is_read_from_the_folder(clip_files: Path, tmp_path: Path) -> None:
    import shutil

    other = tmp_path / "other"
    shutil.copytree(clip_files, other)
    (other / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.0] * 3, "image_std": [1.0] * 3}))
    half = pictures(2)
    assert torch.allclose(LocalClip(other).picture_features(half * 2 - 1), LocalClip(clip_files).picture_features(half),
                          atol=1e-5)


def test_the_name_holds_the_weights_hash(clip: LocalClip, clip_files: Path) -> None:
    import hashlib

    digest = hashlib.sha256((clip_files / "model.safetensors").read_bytes()).hexdigest()
    assert clip.name == f"tiny-clip@{digest[:8]}"
    assert clip.features().width == 8
    assert clip.features().name == f"clip-features:{clip.name}"


def test_what_cannot_be_read_is_refused(clip_files: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        LocalClip(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ModelError, match="never read"):
        LocalClip(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ModelError, match="cannot be read"):
        LocalClip(tmp_path)
    assert clip_folder(str(clip_files)) == clip_files


def test_distance_is_one_minus_cosine(clip: LocalClip) -> None:
    a, b = pictures(3), pictures(3, seed=1)
    cosine = (clip.picture_features(a) * clip.picture_features(b)).sum(1)
    assert torch.allclose(ClipDistance(clip)(a, b), 1 - cosine, atol=1e-5)
    assert ClipDistance(clip)(a, a).tolist() == [0.0, 0.0, 0.0]


def test_the_judge_takes_the_closest_label_or_abstains(clip: LocalClip) -> None:
    x = pictures(6)
    questions = {"object": {"church": ["a church"], "dog": ["a dog", "a picture of a dog"]}}
    sure = ClipJudge(clip, questions, margin=0.0)
    assert sure.questions == {"object": ("church", "dog", SOMETHING_ELSE)}
    texts = torch.stack([F.normalize(clip.text_features(t).mean(0), dim=0) for t in
                         (["a church"], ["a dog", "a picture of a dog"],
                          ["a photo", "an image", "an image of something"])])
    best = (clip.picture_features(x) @ texts.T).argmax(1)
    assert [answer.answers["object"] for answer in sure(x)] == [sure.questions["object"][int(i)] for i in best]
    doubtful = ClipJudge(clip, questions, margin=0.99)
    assert all(not answer.answers and answer.confidence["object"] > 0 for answer in doubtful(x))
    assert sure.name != doubtful.name
    x[2] = torch.nan
    assert [bool(answer.error) for answer in sure(x)] == [False, False, True, False, False, False]


@pytest.mark.parametrize(("questions", "margin"), [({}, 0.1), ({"object": {"church": []}}, 0.1),
                                                   ({"object": {"church": ["a church"]}}, 1.0)])
def test_a_judge_that_could_not_judge_is_refused(clip: LocalClip, questions: Any, margin: float) -> None:
    with pytest.raises(UserError):
        ClipJudge(clip, questions, margin)


def drawn(roles: dict[str, Role], seeds: int, noise: int) -> ImageSet:
    shots = [ImageRecord(prompt=Prompt(text=text, role=role), seed=s, sampler=Sampler(), model="m")
             for text, role in roles.items() for s in range(seeds)]
    return ImageSet(shots, pictures(len(shots), seed=noise))


def test_clip_scores_are_means_over_prompts_of_a_hundred_cosines(clip: LocalClip) -> None:
    roles: dict[str, Role] = {"a church": "direct", "a house": "near", "a dog": "far", "": "empty"}
    after, before = drawn(roles, 2, 0), drawn(roles, 2, 1)
    scores = {score.name: score for score in alignment_scores(after, before, clip, draws=100)}
    assert set(scores) == {f"{prefix}clip/{side}" for prefix in ("", "original/", "change/") for side in
                           ("forget", "keep")}
    keep = 100 * clip(after.pictures[2:6], ["a house", "a house", "a dog", "a dog"])
    assert scores["clip/keep"].value == pytest.approx(float(keep.mean()), abs=1e-4)
    assert (scores["clip/keep"].n, scores["clip/keep"].left_out) == (4, {"empty prompt": 2})
    assert scores["change/clip/keep"].value == pytest.approx(
        (scores["clip/keep"].value or 0) - (scores["original/clip/keep"].value or 0), abs=1e-4)
    assert scores["clip/forget"].low is None  # one prompt
