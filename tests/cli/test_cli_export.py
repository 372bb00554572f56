"""`expunge export` and `expunge import` from the shell."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from expunge.cli import run
from expunge.files import file_digest
from expunge.models.patch import Patch


@pytest.mark.slow
def test_an_edit_goes_out_as_a_lora_and_comes_in_again(patch: Path, pipeline_folder: Path, tmp_path: Path,
                                                       capsys: pytest.CaptureFixture[str]) -> None:
    out, base = tmp_path / "church.safetensors", ["--model", str(pipeline_folder)]
    told = ["--to", "lora-kohya", "--energy", "0.99", "--drop", "--out", str(out)]
    assert run(["export", str(patch), *base, *told]) == 0
    said = capsys.readouterr().out
    assert f"lora-kohya: {out}" in said
    assert "of the change" in said
    assert ": rank " in said
    assert "left out: " in said
    assert "read back by expunge" in said
    assert "read back by diffusers" in said
    assert "note: a LoRA acts by its strength" in said
    record = json.loads((tmp_path / "church.safetensors.export.json").read_text(encoding="utf-8"))
    assert record["to"] == "lora-kohya"
    assert run(["import", str(out), "church", *base, "--out", str(tmp_path / "theirs")]) == 0
    said = capsys.readouterr().out
    assert f"next: expunge evaluate {tmp_path / 'theirs'} --model {pipeline_folder}" in said
    again = Patch.load(tmp_path / "theirs")
    assert again.card.method == "imported"
    assert again.card.request.concept == "church"
    assert run(["apply", str(tmp_path / "theirs"), *base]) == 0
    assert "bit for bit" in capsys.readouterr().out
    assert run(["import", str(out), "church", *base, "--out", str(tmp_path / "theirs")]) == 2
    assert "exists already" in capsys.readouterr().err


def test_what_a_lora_cannot_carry_is_an_error_with_its_remedy(patch: Path, pipeline_folder: Path, tmp_path: Path,
                                                              capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["export", str(patch), "--model", str(pipeline_folder), "--to", "lora-comfy", "--out",
                 str(tmp_path / "x.safetensors")]
    assert run(arguments) == 2
    said = capsys.readouterr().err
    assert "a bias" in said
    assert "--drop leaves them out and names them" in said
    assert not [*tmp_path.iterdir()]


def test_a_file_of_changes_alone_is_imported_where_that_is_said(patch: Path, pipeline_folder: Path, tmp_path: Path,
                                                                capsys: pytest.CaptureFixture[str]) -> None:
    tensors = {name.partition("/")[2]: value for name, value in load_file(patch / "patch.safetensors").items()}
    save_file(tensors, tmp_path / "esd.safetensors")
    arguments = ["import", str(tmp_path / "esd.safetensors"), "church", "--model", str(pipeline_folder), "--out",
                 str(tmp_path / "theirs")]
    assert run(arguments) == 2
    assert "--partial" in capsys.readouterr().err
    assert run([*arguments, "--partial"]) == 0
    assert "are not in the file" in capsys.readouterr().out
    found, made = Patch.load(tmp_path / "theirs"), Patch.load(patch)
    assert set(found.weights) <= set(made.weights)


@pytest.mark.parametrize("asked", [["--with-lora", "x.safetensors"], ["--clip", "x"], ["--measure-prompts", "8"]])
def test_options_of_the_check_without_it_are_refused(patch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                                     asked: list[str]) -> None:
    assert run(["export", str(patch), *asked, "--out", str(tmp_path / "x")]) == 2
    assert f"{asked[0]} without --measure" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


def test_the_default_energy_is_refused_too_where_nothing_is_cut(patch: Path, tmp_path: Path,
                                                               capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", str(patch), "--energy", "0.999", "--out", str(tmp_path / "x")]) == 2
    assert "--energy with --to folder, which cuts nothing" in capsys.readouterr().err


def test_the_patch_itself_stays(patch: Path, pipeline_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
                                ) -> None:
    """Its tensors, and a folder around them; another file in its folder is anybody's."""
    own = tmp_path / "runs" / "church"
    shutil.copytree(patch, own)
    before = {file.name: file_digest(file) for file in own.iterdir()}
    model = ["--model", str(pipeline_folder), "--overwrite"]
    for out, to, how in ((own / "patch.safetensors", "diff-comfy", "is the patch"),
                         (own, "folder", "is a folder around the patch"),
                         (own.parent, "component", "is a folder around the patch")):
        assert run(["export", str(own), *model, "--to", to, "--out", str(out)]) == 2
        assert f"{out} {how}" in capsys.readouterr().err
    assert {file.name: file_digest(file) for file in own.iterdir()} == before
    for _ in range(2):
        assert run(["export", str(own), *model, "--to", "diff-comfy", "--out", str(own / "church.safetensors")]) == 0
    assert before.items() <= {file.name: file_digest(file) for file in own.iterdir()}.items()


def test_an_import_takes_nothing_that_it_is_made_from(patch: Path, pipeline_folder: Path, tmp_path: Path,
                                                      capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "theirs"
    own.mkdir()
    edit, model = own / "patch.safetensors", ["--model", str(pipeline_folder), "--overwrite"]
    assert run(["export", str(patch), *model, "--to", "diff-comfy", "--out", str(edit)]) == 0
    before = file_digest(edit)
    assert run(["import", str(edit), "church", *model, "--out", str(own)]) == 2
    assert f"{edit} is the edit" in capsys.readouterr().err
    assert run(["import", str(edit), "church", *model, "--out", str(pipeline_folder / "unet")]) == 2
    assert "lies in the model" in capsys.readouterr().err
    assert file_digest(edit) == before
    assert not [*pipeline_folder.rglob("patch.*")]
    assert run(["import", str(edit), "church", *model, "--out", str(tmp_path / "mine")]) == 0
