"""Whatever a file holds: no code is run, nothing hangs, and what is said is an error of expunge's own, by its name."""

from __future__ import annotations

import faulthandler
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hostile_inputs import CODE, FINE, Hostile, table
from hostile_readers import READERS

from expunge.cli import run
from expunge.errors import UserError


def _some() -> list[Any]:
    """Every input, those that few readers know in every run; of the others every kind and every reader in turn."""
    inputs, every = table(), 6
    kinds = list(dict.fromkeys(one.name for one in inputs))
    readers = list(READERS)
    often = {name for name in kinds if sum(one.name == name for one in inputs) > 2}
    def marks(one: Hostile) -> list[Any]:
        slow = one.name in often and (kinds.index(one.name) + readers.index(one.reader)) % every
        return [pytest.mark.slow] if slow else []

    return [pytest.param(one, id=one.id, marks=marks(one)) for one in inputs]


@pytest.mark.parametrize("hostile", _some())
def test_a_hostile_input_is_told(hostile: Hostile, good: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                 capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    faulthandler.dump_traceback_later(300, exit=True)
    try:
        reader = READERS[hostile.reader]
        path, file = reader.make(good, tmp_path / "given")
        hostile.spoil(file)
        if (hostile.reader, hostile.name) in FINE:  # taken, or told
            with suppress(UserError):
                reader.read(path, good)
            return
        with pytest.raises(UserError) as caught:
            reader.read(path, good)
        assert any(name in str(caught.value) for name in (file.name, path.name)), str(caught.value)
        if reader.command is not None:
            code = run(reader.command(path, good))
            told = "".join(capfd.readouterr())
            assert code == 2, told
            assert any(name in told for name in (file.name, path.name)), told
            assert not {"\x1b", "\x07", "\u202e"} & {*told}
            assert len(told) < 50_000
    finally:
        faulthandler.cancel_dump_traceback_later()
    assert not [*tmp_path.rglob(CODE)]
