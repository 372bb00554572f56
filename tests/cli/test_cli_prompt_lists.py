"""Lists of prompts on the command line: what cannot be used is refused, and nothing else is asked in its place."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_settings import QUICK

from expunge.cli import run
from expunge.models.patch import Patch

EMPTY = [("p.txt", ""), ("p.txt", "\n \n"), ("p.yaml", ""), ("p.yaml", "direct: []\n"), ("p.json", "[]"),
         ("p.csv", "prompt,seed\n"), ("p.csv", 'prompt,seed\na church,"12,000"\n,3\n'),
         ("p.jsonl", '{"prompt": null}\n')]


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["evaluate", "attack", "relearn", "sample"])
@pytest.mark.parametrize(("name", "text"), EMPTY)
def test_a_list_of_no_prompt_is_refused_and_no_template_takes_its_place(
        verb: str, name: str, text: str, pipeline_folder: Path, patch: Path, tmp_path: Path,
        capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / name).write_text(text)
    about = ["sample"] if verb == "sample" else [verb, str(patch), "--dry-run", "--clip", "nowhere"]
    assert run([*about, "--model", str(pipeline_folder), "--prompts", str(tmp_path / name)]) == 2
    said = capsys.readouterr().err
    assert f"no prompt in {tmp_path / name} can be used" in said
    if "12,000" in text:
        assert "1 row left out: a seed that is no whole number from 0 on (in digits alone) (row 1)." in said
        assert "1 row left out: no text (row 2)." in said


def test_erase_trains_on_what_asks_for_the_concept_and_tells_the_rest(
        pipeline_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("type,prompt,hard\nerased,the church of Rome,1\nothers,a dog,0\n")
    asked = ["erase", "church", "--model", str(pipeline_folder), "--train-prompts", str(file), *QUICK]
    assert run([*asked, "--dry-run"]) == 0
    told = ("mine.csv: columns ignored: hard.",
            "mine.csv: 1 prompt not used for training: to keep, or of something else (1 far).")
    said = capsys.readouterr().out
    assert all(f"# {line}\n" in said for line in told)
    assert run([*asked, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert all(f"understood: {line}\n" in said for line in told)
    assert Patch.load(tmp_path / "out").card.request.prompts == ("the church of Rome",)


def test_erase_refuses_a_list_that_it_cannot_read(pipeline_folder: Path, tmp_path: Path,
                                                  capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.md"
    file.write_text("- a church\n")
    assert run(["erase", "church", "--model", str(pipeline_folder), "--train-prompts", str(file), "--dry-run"]) == 2
    assert "accepted: .yaml, .yml, .toml, .json, .jsonl, .csv, .tsv, or .txt of one a line" in capsys.readouterr().err
