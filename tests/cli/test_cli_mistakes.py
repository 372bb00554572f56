"""Mistakes in any verb: exit codes and one clear message."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from expunge.cli import run


@pytest.mark.parametrize(("arguments", "says"), [
    (["erase", ""], "empty concept"),
    (["erase", "church", "--keep", "church"], "to be unlearned and to be kept"),
    (["erase", "church", "--method", "esdd"], "unknown method 'esdd'"),
    (["erase", "church", "--method", "esdd", "--seed", "-1"], "seed: got -1"),
    (["erase", "church", "--method", "esdd", "--seed", "-1"], "unknown method 'esdd'"),
    (["erase", "church", "--keep", "church", "--steps", "0"], "steps: got 0"),
    (["erase", "church", "--keep", "church", "--steps", "0"], "to be kept"),
    (["erase", "church", "--scope", "everything"], "unknown scope"),
    (["erase", "church", "--set", "steps"], "KEY=VALUE"),
    (["erase", "church of " * 60], "tokens"),
    (["sample", "a church", "--steps", "0"], "--steps"),
    (["sample", "a church", "--count", "2", "--seed", "1"], "--count and --seed"),
    (["sample", "a church", "--seed", str(2**64)], f"seed {2**64}"),
    (["apply", "nowhere"], "no patch at nowhere"),
    (["apply", "nowhere", "--out", "strip.jpg"], "ends in .png"),
    (["show", "nowhere"], "nothing at nowhere"),
    (["report", "nowhere"], "no evaluation at nowhere"),
    (["ls", "worlds", "--kind", "animal"], "--kind"),
    (["evaluate", "--protocol", "i2p-sexual", "--attack", "nowhere"], "--attack with the published protocol"),
    (["evaluate", "--protocol", "i2p-sexual", "--cache", "nowhere"], "--cache with the published protocol"),
    (["evaluate", "--protocol", "emoji", "--limit", "3"], "the product's own evaluation"),
    (["bake", "--pictures", "nowhere", "--without", "chruch"], "chruch"),
])
def test_mistakes_end_with_code_two_and_a_message(arguments: list[str], says: str, pipeline_folder: Path,
                                                  capsys: pytest.CaptureFixture[str]) -> None:
    if arguments[0] in {"erase", "sample", "apply"}:
        arguments = [*arguments, "--model", str(pipeline_folder)]
    assert run(arguments) == 2
    told = capsys.readouterr()
    assert says in told.err
    assert "Traceback" not in told.err
    assert told.out == ""


@pytest.mark.parametrize("model", ["./no/such/folder", ""])
def test_missing_model_is_a_clear_message(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sample", "a church", "--model", model]) == 2
    assert f"no model folder at {model or repr(model)}" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["eras", "church"], ["erase", "--no-such-flag"], ["sample"]])
def test_usage_mistakes_end_with_code_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    assert "Error" in capsys.readouterr().err


def test_output_that_cannot_be_written_is_told_before_the_work(pipeline_folder: Path, tmp_path: Path,
                                                               capsys: pytest.CaptureFixture[str]) -> None:
    from expunge.errors import UserError
    from expunge.models.store import load
    from expunge.unlearn.erase import erase

    (tmp_path / "file").write_text("")
    seen: list[int] = []
    with pytest.raises(UserError, match="nothing was begun"):
        erase(load(pipeline_folder), "church", out=tmp_path / "file" / "below", progress=lambda *told: seen.append(1))
    assert seen == []
    assert run(["sample", "a church", "--model", "nowhere", "--out", str(tmp_path / "file" / "below")]) == 2
    assert "is a file, and no folder" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "said"), [
    (["attack"], "nothing to look for"), (["relearn"], "nothing to look for"),
    (["attack", "--concept", "church", "--pictures", "/nowhere"], "no images in /nowhere"),
    (["relearn", "--concept", "church", "--pictures", "/nowhere"], "no images in /nowhere"),
    (["attack", "--concept", "zebra", "--attacks", "foo"], "foo"),
], ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_a_dry_run_refuses_what_the_real_run_would(arguments: list[str], said: str, pipeline_folder: Path,
                                                   capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*arguments, "--model", str(pipeline_folder), "--dry-run"]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_an_output_that_cannot_be_written_ends_in_a_message() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "expunge", "ls", "scopes"], stdout=full, stderr=subprocess.PIPE,
                              text=True)
    assert done.returncode == 1
    assert "cannot write to standard output" in done.stderr
    assert "Traceback" not in done.stderr
