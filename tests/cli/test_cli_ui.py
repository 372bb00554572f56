"""`expunge ui` as a program: it prints its address, answers, and ends at Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from given import small_patch

from expunge.cli import run
from expunge.cli.ui import TOKEN, _token
from expunge.errors import UserError

pytest.importorskip("starlette", reason="the extra `ui` is not installed")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a signal that another process sends")
@pytest.mark.parametrize(("host", "number"), [("127.0.0.1", signal.SIGINT), ("0.0.0.0", signal.SIGTERM)])
def test_it_serves_until_it_is_interrupted(pipeline_folder: Path, tmp_path: Path, host: str, number: int) -> None:
    command = [sys.executable, "-m", "expunge", "ui", str(tmp_path / "runs"), "--model", str(pipeline_folder), "--port",
               "0", "--host", host]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith(f"page: http://{host}:"), process.stderr
        address, _, token = line.removeprefix("page: ").strip().replace("0.0.0.0", "127.0.0.1").partition("?token=")
        assert bool(token) == (host == "0.0.0.0")
        assert process.stdout.readline() == f"folder: {tmp_path / 'runs'}\n"
        with urlopen(Request(address, headers={"Authorization": f"Bearer {token}"}), timeout=60) as got:
            assert b"<title>expunge</title>" in got.read()
        process.send_signal(number)
        assert process.wait(60) == 0, process.stderr and process.stderr.read()
    finally:
        process.kill()
        process.communicate()


def test_a_token_is_made_where_one_is_needed_and_a_weak_one_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN, raising=False)
    assert _token(needed=False) == ""
    assert len(_token(needed=True)) >= 32
    assert _token(needed=True) != _token(needed=True)
    monkeypatch.setenv(TOKEN, "a-token-of-some-length")
    assert _token(needed=False) == "a-token-of-some-length"
    for weak in ("short", "with a blank in it!", "x" * 15, "päss-wörter-sind-lang"):
        monkeypatch.setenv(TOKEN, weak)
        with pytest.raises(UserError, match="letters"):
            _token(needed=True)


def test_without_its_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                                   pipeline_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "expunge.ui.server", raising=False)
    assert run(["ui", str(tmp_path), "--model", str(pipeline_folder)]) == 2
    assert "expunge[ui]" in capsys.readouterr().err
    monkeypatch.undo()
    sys.modules.pop("expunge.ui.server", None)


def test_cases_need_a_patch(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["attack", "--concept", "church", "--case", "none.json"]) == 2
    assert "--case without a patch" in capsys.readouterr().err


@pytest.mark.parametrize(("more", "said"), [
    (["--attacks", "paraphrase"], "attacks with --case"), (["--tier", "paper"], "tier with --case"),
    (["--concept", "church"], "concept with --case"), (["--set", "options.p4d.steps=1"], "options with --case")])
def test_what_a_case_makes_no_use_of_is_refused(model: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                                                more: list[str], said: str) -> None:
    small_patch(model).save(tmp_path / "patch")
    assert run(["attack", str(tmp_path / "patch"), "--case", "none.json", *more]) == 2
    assert said in capsys.readouterr().err
