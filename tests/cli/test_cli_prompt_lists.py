"""Lists of prompts on the command line: what cannot be used is refused, and nothing else is asked in its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from expunge.cli import run

EMPTY = [("p.txt", ""), ("p.txt", "\n \n"), ("p.yaml", ""), ("p.yaml", "direct: []\n"), ("p.json", "[]"),
         ("p.csv", "prompt,seed\n"), ("p.csv", 'prompt,seed\na church,"12,000"\n,3\n'), ("p.jsonl", '{"prompt": null}\n')]


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
