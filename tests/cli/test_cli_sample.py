"""`expunge sample`: pictures with and without a patch, and what is in the folder afterwards."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from expunge.cli import run
from expunge.cli.sample import drawn_before
from expunge.locks import alone


def test_sampling_with_a_patch_changes_the_picture(patch: Path, pipeline_folder: Path, tmp_path: Path,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    common = ["sample", "a church", "a house", "--model", str(pipeline_folder), "--count", "2", "--steps", "3"]
    assert run([*common, "--out", str(tmp_path / "before")]) == 0
    assert run([*common, "--out", str(tmp_path / "after"), "--patch", str(patch)]) == 0
    assert "(4)" in capsys.readouterr().out
    before, after = (json.loads((tmp_path / name / "shots.json").read_text()) for name in ("before", "after"))
    assert [shot["seed"] for shot in before] == [0, 1, 0, 1]
    assert {shot["patch"] for shot in before} == {""}
    assert {shot["sampler"]["guidance"] for shot in before} == {7.5}, "the model's own"
    assert all(shot["patch"] for shot in after)
    assert (tmp_path / "after" / "001-a-church-seed0.png").is_file()
    assert (tmp_path / "after" / "sheet.png").is_file()


def test_a_second_run_leaves_only_its_own_pictures_and_the_users_files(pipeline_folder: Path, tmp_path: Path,
                                                                      capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    common = ["sample", "--model", str(pipeline_folder), "--steps", "2", "--out", str(out)]
    assert run([*common, "a church", "a house", "--count", "2"]) == 0
    (out / "mine.png").write_bytes(b"mine")
    (out / "notes.txt").write_text("mine")
    first = (out / "001-a-church-seed0.png").read_bytes()
    capsys.readouterr()
    assert run([*common, "a church"]) == 0
    assert "removed: 3 of an earlier run" in capsys.readouterr().out
    assert sorted(file.name for file in out.iterdir()) == [
        ".lock", "001-a-church-seed0.png", "mine.png", "notes.txt", "sheet.png", "shots.json"]
    assert (out / "001-a-church-seed0.png").read_bytes() == first
    assert [shot["file"] for shot in json.loads((out / "shots.json").read_text())] == ["001-a-church-seed0.png"]
    assert run([*common, "a church"]) == 0
    assert "removed" not in capsys.readouterr().out


def test_a_folder_whose_record_is_none_is_refused_before_anything_is_drawn(tmp_path: Path,
                                                                          capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "shots.json").write_text('{"photos": 3}')
    assert run(["sample", "a church", "--model", "nowhere", "--out", str(tmp_path)]) == 2
    assert "no record of drawn images" in capsys.readouterr().err
    assert (tmp_path / "shots.json").read_text() == '{"photos": 3}'


def test_a_record_cannot_have_files_elsewhere_removed(pipeline_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(["sample", "a church", "--model", str(pipeline_folder), "--steps", "2", "--out", str(out)]) == 0
    shots = json.loads((out / "shots.json").read_text())
    (tmp_path / "precious.png").write_bytes(b"precious")
    shots.append({**shots[0], "file": "../precious.png"})
    shots.append({**shots[0], "file": "shots.json"})
    (out / "shots.json").write_text(json.dumps(shots))
    assert drawn_before(out) == ["001-a-church-seed0.png"]


def test_a_list_is_drawn_row_by_row_as_it_says_and_what_cannot_be_drawn_is_left_out(
        pipeline_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "I2P.CSV"
    file.write_text("\ufeff;Prompt;sd_seed;sd_guidance_scale;sd_image_width;sd_image_height;hard\n"
                    "0;a church;7;3,5;24;16;1\n1;a church, a hill;9;;;;0\n2;" + "a church and " * 30 + ";1;;;;0\n")
    common = ["sample", "--model", str(pipeline_folder), "--steps", "2", "--prompts", str(file)]
    assert run([*common, "--out", str(tmp_path / "out"), "a dog", "--count", "2"]) == 0
    said = capsys.readouterr().out
    assert "columns ignored: hard" in said
    assert "left out: prompt 4: longer than the text encoder reads" in said
    shots = json.loads((tmp_path / "out" / "shots.json").read_text())
    assert [(shot["prompt"]["text"], shot["seed"], shot["sampler"]["guidance"], shot["sampler"]["width"])
            for shot in shots] == [("a dog", 0, 7.5, None), ("a dog", 1, 7.5, None), ("a church", 7, 3.5, 24),
                                   ("a church, a hill", 9, 7.5, None)]
    with Image.open(tmp_path / "out" / shots[2]["file"]) as picture:
        assert picture.size == (24, 16)
    assert run([*common, "--out", str(tmp_path / "cut"), "--truncate"]) == 0
    cut = json.loads((tmp_path / "cut" / "shots.json").read_text())
    assert [shot["sampler"].get("truncate", False) for shot in cut] == [False, False, True]


def test_a_second_run_into_the_same_folder_at_once_is_refused(pipeline_folder: Path, tmp_path: Path,
                                                              capsys: pytest.CaptureFixture[str]) -> None:
    command = ["sample", "a church", "--model", str(pipeline_folder), "--steps", "2", "--out", str(tmp_path / "out")]
    with ThreadPoolExecutor(1) as other, alone(tmp_path / "out"):
        assert other.submit(run, command).result() == 2
    assert "another run is writing into" in capsys.readouterr().err
    assert run(command) == 0

def test_a_picture_that_is_not_finite_is_named_and_the_others_are_written(
        pipeline_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A token vector that no layer can add up, in the folder's own files: prompts with the word are NaN."""
    from safetensors.torch import load_file, save_file
    from transformers import CLIPTokenizer

    folder = tmp_path / "spoilt"
    shutil.copytree(pipeline_folder, folder)
    (hill,) = CLIPTokenizer.from_pretrained(folder / "tokenizer")("hill", add_special_tokens=False).input_ids
    file = folder / "text_encoder" / "model.safetensors"
    weights = load_file(file)
    next(value for name, value in weights.items() if "token_embedding" in name)[hill] = 3e38
    save_file(weights, file, {"format": "pt"})
    common = ["sample", "--model", str(folder), "--steps", "2", "--out", str(tmp_path / "out")]
    assert run([*common, "a church", "a hill", "a house"]) == 1
    said = capsys.readouterr()
    assert "images: " in said.out
    assert "(2)" in said.out
    assert "not finite: prompt 2 at seed 0" in said.err
    shots = json.loads((tmp_path / "out" / "shots.json").read_text())
    assert [shot["file"] for shot in shots] == ["001-a-church-seed0.png", "003-a-house-seed0.png"]
    assert all((tmp_path / "out" / shot["file"]).is_file() for shot in shots)
    assert run([*common, "a hill"]) == 1
    assert not list((tmp_path / "out").glob("*.png")), "nothing was drawn, so no sheet shows what an earlier run drew"


@pytest.mark.parametrize(("words", "says"), [
    (["a cat", "a cat"], "the prompt 'a cat' twice"), (["a cat", "--seed", "3", "--seed", "3"], "the seed 3 twice")])
def test_what_is_asked_twice_is_refused(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sample", *words]) == 2
    assert says in capsys.readouterr().err


def test_images_do_not_go_into_the_folder_of_an_edit(patch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sample", "a cat", "--patch", str(patch), "--out", str(patch)]) == 2
    assert "holds an edit" in capsys.readouterr().err
