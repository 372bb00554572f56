"""One run at a time in a folder, seen from two processes."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from expunge.errors import UserError
from expunge.locks import LOCK, alone, alone_in_out, held

HOLDER = """
import sys
from pathlib import Path
from expunge.locks import alone
with alone(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def other_process_in(folder: Path) -> Iterator[None]:
    """Inside, another process writes into `folder`."""
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield
        finally:
            process.stdin.close()


def test_a_folder_is_refused_while_another_process_writes_there_and_free_when_it_ends(tmp_path: Path) -> None:
    said = r"another run is writing into .*; nothing was begun"
    with other_process_in(tmp_path), pytest.raises(UserError, match=said), alone(tmp_path):
        pass
    with alone(tmp_path):
        pass


def test_what_holds_a_folder_may_call_what_holds_it_and_other_threads_may_not(tmp_path: Path) -> None:
    seen: list[bool] = []

    def elsewhere() -> None:
        with held(tmp_path) as mine:
            seen.append(mine)

    with alone(tmp_path):
        with held(tmp_path) as again:
            assert again
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert seen == [False]


def test_what_is_refused_before_it_wrote_anything_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no"), alone(tmp_path / "new"):
        raise ValueError("no")
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").mkdir()
    with pytest.raises(ValueError, match="no"), alone(tmp_path / "old"):
        raise ValueError("no")
    assert (tmp_path / "old").exists()
    with pytest.raises(ZeroDivisionError), alone(tmp_path / "half"):
        (tmp_path / "half" / "kept").write_text(str(1 / len((tmp_path / "half" / LOCK).read_text())))
    assert not (tmp_path / "half").exists()


def test_functions_hold_the_folder_that_they_get_as_out(tmp_path: Path) -> None:
    @alone_in_out("part")
    def write(value: int, *, out: Any = None) -> int:
        if out is not None:
            assert (Path(out) / "part" / LOCK).exists()
        return value

    assert write(3) == 3
    assert write(4, out=str(tmp_path)) == 4
    with other_process_in(tmp_path / "part"), pytest.raises(UserError, match="another run"):
        write(5, out=tmp_path)
