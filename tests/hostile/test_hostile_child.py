"""The nastiest inputs in a process of their own, with a bound on time and memory, as a user would meet them."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hostile_inputs import ANY, CODE, ESCAPE, OF_JSON, OF_MODELS, OF_SETTINGS, OF_TENSORS, Spoil
from hostile_readers import READERS

SOURCE = Path(__file__).resolve().parents[2] / "src"
SECONDS, BYTES = 60, 4 * 2**30


def child(command: list[str], where: Path, **how: Any) -> subprocess.CompletedProcess[str]:
    """`expunge` with these words, within 60 seconds of the processor and 4 GB."""
    def bounded() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.setrlimit(resource.RLIMIT_DATA, (BYTES, BYTES))

    return subprocess.run([sys.executable, "-P", "-m", "expunge", *command], cwd=where, capture_output=True, text=True,
                          timeout=5 * SECONDS, preexec_fn=bounded, stdin=subprocess.DEVNULL, check=False,
                          env={**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}, **how)


def told(run: subprocess.CompletedProcess[str], name: str) -> None:
    words = run.stdout + run.stderr
    assert run.returncode == 2, words
    assert "Traceback" not in words
    assert name in words
    assert not {"\x1b", "\x07", "\u202e"} & {*words}


@pytest.mark.parametrize(("reader", "spoil"), [
    ("evaluation.json", OF_JSON["lists 100,000 deep"]), ("card", ANY["a device without end in its place"]),
    *(pytest.param(*one, marks=pytest.mark.slow) for one in (  # these load torch first
        ("patch", OF_TENSORS["a header of 2 GB"]), ("settings", OF_SETTINGS["billions of laughs"]),
        ("settings", ANY["a pipe in its place"]), ("model index", OF_MODELS["a module of the folder's own"]),
        ("model index", OF_MODELS["code of the folder's own for transformers"]),
        ("prompts.txt", ANY["a device without end in its place"]),
        ("single file", OF_TENSORS["offsets behind the end"]))),
], ids=lambda value: value if isinstance(value, str) else "")
def test_within_bounds(reader: str, spoil: Spoil, good: Any, tmp_path: Path) -> None:
    path, file = READERS[reader].make(good, tmp_path / "given")
    spoil(file)
    command = READERS[reader].command
    assert command is not None
    told(child(command(path, good), tmp_path), path.name)
    assert not [*tmp_path.rglob(CODE)]


def test_a_name_that_acts_on_terminals_is_shown_as_it_is(tmp_path: Path) -> None:
    name = ESCAPE.replace("/", "")
    (tmp_path / f"{name}.safetensors").write_bytes(b"no patch")
    told(child(["show", f"{name}.safetensors"], tmp_path), "\\u001b]0;owned")


def test_a_file_that_may_not_be_read_is_told(good: Any, tmp_path: Path) -> None:
    """Whoever may read everything is somebody else for this."""
    path, file = READERS["evaluation.json"].make(good, tmp_path / "given")
    file.chmod(0)
    who: dict[str, Any] = {}
    if os.geteuid() == 0:
        who = {"user": 65534, "group": 65534, "extra_groups": ()}
        for folder in (path, *path.parents):
            if folder.stat().st_uid == 0 and folder.is_relative_to(tmp_path.parents[2]):
                folder.chmod(0o755)
        try:
            child(["--version"], Path("/"), **who).check_returncode()
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("nobody else may run this Python")
    told(child(["show", str(path)], Path("/"), **who), file.name)


def test_a_name_longer_than_any_file_has_is_told(tmp_path: Path) -> None:
    told(child(["show", "a" * 5000], tmp_path), "aaaa")


