"""`expunge apply` and `expunge merge`: patches that fit, and those that do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from expunge.cli import run
from expunge.models.patch import Patch


def test_apply_says_that_the_patch_fits_and_comes_off(patch: Path, pipeline_folder: Path, tmp_path: Path,
                                                      capsys: pytest.CaptureFixture[str]) -> None:
    strip = tmp_path / "strip.png"
    assert run(["apply", str(patch), "--model", str(pipeline_folder), "--count", "2", "--out", str(strip)]) == 0
    out = capsys.readouterr().out
    assert "fits: church, by esd" in out
    assert "acts: what the unet answers changes by " in out
    assert "bit for bit" in out
    assert strip.is_file()


def test_a_patch_that_acts_a_little_is_not_said_to_change_nothing(
        patch: Path, model: Any, pipeline_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = next(name for name in model.parameters_in("xattn") if name.endswith("to_v.weight"))
    made = Patch.load(patch)
    value = model.parameters_in("xattn")[name].detach()
    Patch.of({name: value * (1 + 1e-3)}, model=model, request=made.card.request, method="test", settings={}, seed=0
             ).save(tmp_path / "little")
    assert run(["apply", str(tmp_path / "little"), "--model", str(pipeline_folder)]) == 0
    assert "acts: what the unet answers changes by <0.1%" in capsys.readouterr().out


def test_strip_of_the_empty_prompt_is_not_that_of_the_cards_first(patch: Path, pipeline_folder: Path, tmp_path: Path
                                                                  ) -> None:
    common = ["apply", str(patch), "--model", str(pipeline_folder), "--count", "1", "--out"]
    assert run([*common, str(tmp_path / "empty.png"), "--prompt", ""]) == 0
    assert run([*common, str(tmp_path / "first.png")]) == 0
    assert (tmp_path / "empty.png").read_bytes() != (tmp_path / "first.png").read_bytes()


def test_patch_for_another_model_is_refused(patch: Path, v_pipeline_folder: Path,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["apply", str(patch), "--model", str(v_pipeline_folder)]) == 2
    assert "a patch for" in capsys.readouterr().err


def test_damaged_patch_is_refused(patch: Path, pipeline_folder: Path, tmp_path: Path,
                                  capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "patch.json").write_bytes((patch / "patch.json").read_bytes())
    whole = (patch / "patch.safetensors").read_bytes()
    (tmp_path / "patch.safetensors").write_bytes(whole[:-5])
    assert run(["apply", str(tmp_path), "--model", str(pipeline_folder)]) == 2
    assert "patch" in capsys.readouterr().err


def test_merge_writes_a_folder_and_refuses_to_overwrite(patch: Path, pipeline_folder: Path, tmp_path: Path,
                                                        capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["merge", str(patch), "--model", str(pipeline_folder), "--out", str(tmp_path / "merged")]
    assert run(arguments) == 0
    assert (tmp_path / "merged" / "model_index.json").is_file()
    capsys.readouterr()
    assert run(arguments) == 2
    told = capsys.readouterr().err
    assert "exists already" in told
    assert "--overwrite" in told
    assert run([*arguments, "--overwrite"]) == 0
    assert run([*arguments, "--overwrite", "--only", "lora"]) == 2


def test_a_patch_of_several_concepts_shows_each_of_them(patch_of_two: Path, pipeline_folder: Path, tmp_path: Path,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    common = ["apply", str(patch_of_two), "--model", str(pipeline_folder), "--count", "1", "--out"]
    assert run([*common, str(tmp_path / "both.png")]) == 0
    assert "fits: church, dog, by esd" in capsys.readouterr().out
    assert run([*common, str(tmp_path / "one.png"), "--prompt", "a dog"]) == 0
    both, one = (Image.open(tmp_path / name).size for name in ("both.png", "one.png"))
    assert both[0] == one[0]
    assert both[1] - 4 == 2 * (one[1] - 4)  # twice the rows, one margin


def test_merging_a_patch_of_several_concepts_keeps_its_card(patch_of_two: Path, pipeline_folder: Path, tmp_path: Path
                                                            ) -> None:
    assert run(["merge", str(patch_of_two), "--model", str(pipeline_folder), "--out", str(tmp_path / "merged")]) == 0
    card = json.loads((tmp_path / "merged" / "expunge-patch.json").read_text())
    assert [card["request"]["concept"], card["request"]["also"][0]["concept"]] == ["church", "dog"]
