"""The ledger: nothing in it can be changed unseen, and it is whole whatever happens while it is written."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from expunge.errors import ConfigError, UserError
from expunge.records import Entry, Ledger
from expunge.sequence.ledger import LEDGER, add, asked_digest, begun, check_file, read_ledger, withdrawn
from expunge.sequence.settings import SequenceSettings

REQUESTS: list[dict[str, Any]] = [{"concept": "church", "who": "a", "when": "2026-11-01"}, {"concept": "bomb"}]


def settings(*requests: dict[str, Any]) -> SequenceSettings:
    return SequenceSettings.build({"requests": requests or REQUESTS})


def entry(number: int, kind: str = "erased", **more: Any) -> Entry:
    item = settings().requests[number - 1]
    return Entry(kind=kind, number=number, concept=item.concept, who=item.who, when=item.when,  # type: ignore[arg-type]
                 asked=asked_digest(item), state=f"s{number}", **more)


@pytest.fixture
def written(model: Any, tmp_path: Path) -> Ledger:
    """Two requests that were met, on disk."""
    ledger = read_ledger(tmp_path, model)
    for number in (1, 2):
        ledger = add(tmp_path, ledger, entry(number))
    return ledger


def test_what_was_written_is_read_back(written: Ledger, model: Any, tmp_path: Path) -> None:
    again = read_ledger(tmp_path, model)
    assert again == written
    assert [line.concept for line in again.entries] == [("church",), ("bomb",)]
    assert again.entries[1].previous == again.entries[0].digest
    assert again.seal == again.entries[1].digest


@pytest.mark.parametrize("change", [
    lambda told: told["entries"][0].update(evidence="another ticket"),
    lambda told: told["entries"][1].update(patch_hash="0" * 64),
    lambda told: told["entries"].pop(0),
    lambda told: told["entries"].pop(),
    lambda told: told["entries"].reverse(),
    lambda told: told.update(seal=""),
    lambda told: told.update(model="another"),
], ids=["first", "last", "first gone", "last gone", "order", "seal", "head"])
def test_a_ledger_that_was_edited_by_hand_is_refused(written: Ledger, model: Any, tmp_path: Path, change: Any) -> None:
    file = tmp_path / LEDGER
    told = json.loads(file.read_text())
    change(told)
    file.write_text(json.dumps(told))
    with pytest.raises(UserError, match="changed by hand"):
        read_ledger(tmp_path, model)


def test_a_ledger_that_is_no_ledger_or_another_models_is_refused(written: Ledger, model: Any, v_model: Any,
                                                                 tmp_path: Path) -> None:
    with pytest.raises(UserError, match="accepted: one of the loaded model"):
        read_ledger(tmp_path, v_model)
    (tmp_path / LEDGER).write_text("{")
    with pytest.raises(UserError, match="cannot be read"):
        read_ledger(tmp_path, model)


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from expunge.errors import StorageError
from expunge.records import Entry, Ledger
from expunge.sequence.ledger import add
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then a write past the limit fails as on a full disk
folder = Path(sys.argv[1])
ledger = Ledger.read((folder / "ledger.json").read_text())
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, 1_000))
try:
    add(folder, ledger, Entry(number=3, concept=("skull",), asked="x", evidence="y" * 2_000))
except StorageError as error:
    print(error)
    sys.exit(7)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX resource limits")
def test_a_full_disk_leaves_the_ledger_as_it_was(written: Ledger, model: Any, tmp_path: Path) -> None:
    before = (tmp_path / LEDGER).read_bytes()
    done = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 7, done.stderr
    assert "nothing was half-written" in done.stdout
    assert (tmp_path / LEDGER).read_bytes() == before
    assert read_ledger(tmp_path, model) == written


def test_states_without_a_ledger_mean_that_it_was_lost(written: Ledger, model: Any, tmp_path: Path) -> None:
    (tmp_path / "states" / "01-church-x").mkdir(parents=True)
    (tmp_path / "states" / "01-church-x" / "patch.safetensors").write_bytes(b"")
    (tmp_path / LEDGER).unlink()
    with pytest.raises(UserError, match=r"states of a sequence in .*, and no ledger\.json"):
        read_ledger(tmp_path, model)


def test_a_ledger_is_there_before_anything_else(model: Any, tmp_path: Path) -> None:
    ledger = begun(tmp_path, read_ledger(tmp_path, model))
    assert (ledger.entries, read_ledger(tmp_path, model)) == ((), ledger)
    assert add(tmp_path, ledger, entry(1)).entries[0].previous == ledger.seal


def test_the_file_must_say_what_the_ledger_has(written: Ledger, tmp_path: Path) -> None:
    check_file(written, settings(*REQUESTS, {"concept": "skull"}), tmp_path)
    with pytest.raises(ConfigError, match=r"request 1 was church \(a, 2026-11-01\), the file now says castle"):
        check_file(written, settings({"concept": "castle"}, REQUESTS[1]), tmp_path)
    with pytest.raises(ConfigError, match=r"request 2 \(bomb\) is not in the file any more.*withdrawn"):
        check_file(written, settings(REQUESTS[0]), tmp_path)
    with pytest.raises(ConfigError, match=r'request 1 \(church\) was asked otherwise .*: evidence ".*", now "invented'):
        check_file(written, settings({**REQUESTS[0], "evidence": "invented later"}, REQUESTS[1]), tmp_path)
    with pytest.raises(ConfigError, match="its anchor, keep, method or settings"):
        check_file(written, settings({**REQUESTS[0], "keep": ["a dog"]}, REQUESTS[1]), tmp_path)


def test_a_request_is_withdrawn_once_and_for_all(written: Ledger, model: Any, tmp_path: Path) -> None:
    line = entry(1, "withdrawn").model_copy(update={"who": "a", "when": None, "evidence": "settled"})
    taken_back = add(tmp_path, written, line)
    assert list(withdrawn(taken_back)) == [1]
    back = {**REQUESTS[0], "withdrawn": {"who": "a", "why": "settled"}}
    check_file(taken_back, settings(back, REQUESTS[1]), tmp_path)
    with pytest.raises(ConfigError, match="was withdrawn otherwise"):
        check_file(taken_back, settings({**REQUESTS[0], "withdrawn": {"who": "b"}}, REQUESTS[1]), tmp_path)
    with pytest.raises(ConfigError, match="was withdrawn and is so no more"):
        check_file(taken_back, settings(), tmp_path)
