"""The scripts of benchmarks/ start, those that print a published record print it, and the docs name no other."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "benchmarks"
SCRIPTS = sorted(FOLDER.glob("*.py"))
SHARED = {"sd14.py"}
"""What others import; no command."""
RECORDS = {
    "claims.py": (), "methods_table.py": (), "methods_table.py --judges": ("--judges",),
    "methods_table.py --kinds": ("--kinds",), "methods_table.py newer": ("newer.json.xz",),
    "methods_table.py adversarial": ("adversarial.json.xz",),
    "methods_table.py adversarial --judges": ("adversarial.json.xz", "--judges"),
    "methods_table.py newer --judges": ("newer.json.xz", "--judges"), "guard.py": ("--records", "guard.json.xz"),
    "sequences.py": ("--records", "sequences.json.xz")}


def ran(monkeypatch: pytest.MonkeyPatch, script: str, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", [script, *(
        str(FOLDER / "records" / word) if word.endswith(".xz") else word for word in arguments)])
    monkeypatch.syspath_prepend(str(FOLDER))
    runpy.run_path(str(FOLDER / script), run_name="__main__")


@pytest.mark.parametrize("script", [file.name for file in SCRIPTS if file.name not in SHARED])
def test_a_script_tells_its_options(script: str, monkeypatch: pytest.MonkeyPatch,
                                    capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        ran(monkeypatch, script, "--help")
    assert ended.value.code in (0, None)
    assert f"python benchmarks/{script}" in capsys.readouterr().out


@pytest.mark.parametrize("command", [
    pytest.param(command, marks=pytest.mark.slow) if command == "claims.py" else command for command in RECORDS])
def test_a_published_record_prints_its_table(command: str, monkeypatch: pytest.MonkeyPatch,
                                             capsys: pytest.CaptureFixture[str]) -> None:
    ran(monkeypatch, command.split()[0], *RECORDS[command])
    said = capsys.readouterr().out
    assert re.search(r"^\| *-+", said, re.MULTILINE)
    assert re.search(r"\d+ of \d+|n=\d+", said)


def test_docs_name_only_files_that_there_are() -> None:
    named = {(page.name, name) for page in [ROOT / "README.md", FOLDER / "README.md", *(ROOT / "docs").glob("*.md")]
             for name in re.findall(r"benchmarks/[\w./-]+\.(?:py|yaml|xz)", page.read_text(encoding="utf-8"))}
    assert len(named) > 40
    assert not {(page, name) for page, name in named if not (ROOT / name).is_file()}


def test_the_page_of_benchmarks_names_every_script() -> None:
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert not [file.name for file in SCRIPTS if file.name not in page and file.name not in SHARED]
