"""Records with fields dropped, added and swapped: read, shown and drawn, or told."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hostile_fuzz import as_json, both, bytes_like, reads_or_tells, values_like
from hostile_readers import JSON, READERS
from hypothesis import given
from hypothesis import strategies as st

from expunge.cli import run

SHOWN = ("evaluation.json", "attack.json", "bench.json", "sequence.json", "relearning.json", "card")


@both(JSON)
def test_any_json(reader: str, most: Any, good: Any, tmp_path: Path) -> None:
    _, file = READERS[reader].make(good, tmp_path / "good")
    value = json.loads(file.read_text(encoding="utf-8"))

    @most
    @given(st.one_of(values_like(value).map(as_json), bytes_like(file.read_bytes())))
    def check(data: bytes) -> None:
        reads_or_tells(reader, good, tmp_path / "given", lambda file: file.write_bytes(data) and None)

    check()


@both(SHOWN)
def test_what_can_be_read_can_be_shown(reader: str, most: Any, good: Any, tmp_path: Path,
                                       capfd: pytest.CaptureFixture[str]) -> None:
    _, file = READERS[reader].make(good, tmp_path / "good")
    value = json.loads(file.read_text(encoding="utf-8"))

    @most
    @given(values_like(value).map(as_json))
    def check(data: bytes) -> None:
        shutil.rmtree(tmp_path / "given", ignore_errors=True)
        path, spoilt = READERS[reader].make(good, tmp_path / "given")
        spoilt.write_bytes(data)
        assert run(["show", str(path)]) in (0, 2)
        assert run(["show", str(path), "--json"]) in (0, 2)
        if reader in ("evaluation.json", "attack.json", "bench.json", "sequence.json"):
            assert run(["report", str(path), "--out", str(tmp_path / "page")]) in (0, 2)
        told = "".join(capfd.readouterr())
        assert "\x1b" not in told
        assert "\u202e" not in told

    check()
