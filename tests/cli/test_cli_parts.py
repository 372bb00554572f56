"""Every part of what measures is named on the command line: an open model is measured with the embedded world's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from expunge.cli import run
from expunge.registry import PROMPTS, REFERENCES

SHORT = ["--steps", "2", "--seeds", "1", "--set", "draws=100", "--set", "fid_draws=20", "--set", "counts.near=2",
         "--set", "counts.far=2", "--set", "counts.direct=6", "--set", "counts.held_out=1", "--set",
         "counts.implicit=0", "--set", "counts.paraphrase=0", "--set", "counts.never_seen=0"]
TOP = ["--detector", "emoji-judge", "--detector-option", "rule.rule=top"]


@pytest.fixture(autouse=True)
def _no_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EXPUNGE_CLIP", raising=False)


def measured(patch: Path, pipeline: Path, out: Path, *options: str) -> dict[str, Any]:
    assert run(["evaluate", str(patch), "--model", str(pipeline), *SHORT, *TOP, *options, "--out", str(out)]) == 0
    found: dict[str, Any] = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    return found


def test_an_open_model_is_measured_with_parts_of_another_world_by_their_names(
        patch: Path, pipeline_folder: Path, tmp_path: Path) -> None:
    parts = ["--features", "emoji-judge", "--reference", "emoji-drawings", "--distance", "emoji-judge"]
    found = measured(patch, pipeline_folder, tmp_path / "a", *parts, "--prompts-of", "emoji")
    used = {name.partition(": ")[0]: name.partition(": ")[2] for name in found["detectors"]}
    assert (used["judge"], used["features"], used["distance"]) == ("emoji-judge",) * 3
    scores = {score["name"]: score for score in found["scores"]}
    assert scores["fid/real"]["value"] > 0
    assert "emoji" in scores["fid/real"]["denominator"]
    assert found["settings"]["prompts_of"] == "emoji"
    assert set(found["strata"]) >= {"name", "short"}
    other = measured(patch, pipeline_folder, tmp_path / "b", "--features", "emoji-judge", "--distance", "ssim")
    assert {score["name"]: score["value"] for score in other["scores"]}["fid/real"] is None
    assert "distance: 1-ssim" in other["detectors"]
    assert other["prompts_hash"] != found["prompts_hash"]


def test_attacks_ask_the_prompts_that_are_named_and_say_so_in_the_next_command(
        patch: Path, pipeline_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["attack", str(patch), "--model", str(pipeline_folder), *TOP, "--prompts-of", "emoji", "--attacks",
                "seed-search", "--count", "2", "--steps", "2", "--set", "options.seed-search.tries=1",
                "--control-items", "0", "--force", "--out", str(tmp_path)]) in (0, 2)
    said = capsys.readouterr()
    if (tmp_path / "attack.json").is_file():
        assert json.loads((tmp_path / "attack.json").read_text())["settings"]["prompts_of"] == "emoji"
        assert "--prompts-of emoji" in said.out
    else:  # a pipeline of random weights draws nothing that anybody finds
        assert "the judge finds no 'church' in" in said.err


@pytest.mark.parametrize(("what", "known"), [("prompts", PROMPTS), ("references", REFERENCES)])
def test_ls_lists_each(what: str, known: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ls", what]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == known.names()


@pytest.mark.parametrize(("options", "says"), [
    (["--features", "inception"], "give it as --features-option files.inception=PATH"),
    (["--reference", "coco"], "unknown reference 'coco'"), (["--prompts-of", "pets"], "see `expunge ls prompts`"),
    (["--distance-option", "modified=true"], "--distance NAME with them")])
def test_what_is_missing_is_told_before_anything_is_drawn(options: list[str], says: str, patch: Path,
                                                          pipeline_folder: Path, tmp_path: Path,
                                                          capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", str(patch), "--model", str(pipeline_folder), *SHORT, *TOP, *options,
                "--out", str(tmp_path)]) == 2
    assert says in capsys.readouterr().err
