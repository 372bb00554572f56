"""What appears whole or not at all: kills at its worst moments, and two processes at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from expunge.errors import UserError
from expunge.locks import LOCK
from expunge.scratch import beside, put, taken
from launching import finished

KILLED = """
import os, signal, sys
from pathlib import Path
from expunge import scratch
out, where = Path(sys.argv[1]), sys.argv[2]
with scratch.beside(out) as place:
    (place / "new").mkdir()
    (place / "new" / "file").write_text("new")
    if where == "writing":
        os.kill(os.getpid(), signal.SIGKILL)
    rename = Path.rename
    def killed(self, target):
        rename(self, target)
        os.kill(os.getpid(), signal.SIGKILL)
    Path.rename = killed
    scratch.put(place / "new", out)
"""
MANY = """
import os, sys, time
from pathlib import Path
from expunge.errors import UserError
from expunge.scratch import beside
out, log = Path(sys.argv[1]), os.open(Path(sys.argv[1]).parent / "log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
until = time.monotonic() + 3
while time.monotonic() < until:
    try:
        with beside(out) as place:
            os.write(log, f"in {os.getpid()}\\n".encode())
            (place / "mine").write_text("x")
            os.write(log, f"out {os.getpid()}\\n".encode())
    except UserError:
        pass
"""
HOLDER = """
import sys
from pathlib import Path
from expunge.scratch import beside
with beside(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def made(out: Path, text: str) -> None:
    with beside(out) as place:
        (place / "new").mkdir()
        (place / "new" / "file").write_text(text)
        put(place / "new", out)


def test_what_is_made_takes_the_place_of_what_was_there_and_leaves_nothing_else(tmp_path: Path) -> None:
    for text in ("first", "second"):
        made(tmp_path / "out", text)
        assert (tmp_path / "out" / "file").read_text() == text
        assert os.listdir(tmp_path) == ["out"]
    with pytest.raises(ZeroDivisionError), beside(tmp_path / "out") as place:
        (place / "half").write_text(str(1 / 0))
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize("where", ["writing", "renaming"])
def test_what_a_killed_process_left_is_cleared_away_and_what_it_put_aside_returns(tmp_path: Path, where: str) -> None:
    out = tmp_path / "out"
    made(out, "old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(out), where], check=False)
    assert done.returncode == -signal.SIGKILL
    assert out.exists() == (where == "writing")
    with beside(out) as place:
        assert (out / "file").read_text() == "old"
        assert [name for name in os.listdir(place) if name != ".lock"] == []
    assert os.listdir(tmp_path) == ["out"]


def test_a_second_process_is_refused_by_name(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "out")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=r"another run is writing into .*/out; .*wait for it"):
            made(tmp_path / "out", "mine")
        process.stdin.close()
    made(tmp_path / "out", "mine")
    assert os.listdir(tmp_path) == ["out"]


def test_a_kill_between_a_record_and_its_file_leaves_the_old_two(tmp_path: Path) -> None:
    out, record = tmp_path / "out", tmp_path / "record"
    place = tmp_path / ".out.expunge-part"
    (place / "before.expunge-part").mkdir(parents=True)
    for name in ("out", "record"):
        (place / "before.expunge-part" / name).write_text("old")
    record.write_text("new")  # whose file never came
    with beside(out):
        assert (out.read_text(), record.read_text()) == ("old", "old")


def test_who_opened_the_lock_of_a_folder_that_went_then_holds_nothing(tmp_path: Path) -> None:
    """Between the end of one and its unlocking others come: each is alone, and none loses its folder."""
    running = [subprocess.Popen([sys.executable, "-c", MANY, str(tmp_path / "out")], stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True) for _ in range(3)]
    finished(running)
    assert os.listdir(tmp_path) == ["log"]
    lines = (tmp_path / "log").read_text().splitlines()
    assert len(lines) > 20
    assert all(one == f"in {other[4:]}" for one, other in zip(lines[::2], lines[1::2], strict=True))


def test_what_was_left_by_a_kill_right_after_all_was_in_place_goes_when_a_second_run_is_refused(tmp_path: Path) -> None:
    made(tmp_path / "out", "mine")
    place = tmp_path / ".out.expunge-part"
    (place / "before.expunge-part").mkdir(parents=True)
    (place / LOCK).write_text("")
    assert str(taken(tmp_path / "out", "a new name")) == f"{tmp_path / 'out'} exists already; accepted: a new name"
    assert os.listdir(tmp_path) == ["out"]
