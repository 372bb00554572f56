"""Lines that a run goes on from carry their digest: what was changed is noticed, left out and made again."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from expunge.attacks.sights import Sights
from expunge.files import append_lines, read_lines
from expunge.runtime import current
from expunge.sealed import DamagedLine, mend_lines, sealed_line, unsealed_line

VALUE: dict[str, Any] = {"row": 3, "value": 0.25, "text": "a caf\u00e9\u2028 of it", "ids": [1, 20], "none": None}


def test_a_line_is_read_as_it_was_written_and_of_earlier_versions_without_a_seal(tmp_path: Path) -> None:
    line = sealed_line(VALUE)
    assert "\n" not in line
    assert unsealed_line(line) == unsealed_line(line.encode()) == VALUE
    assert unsealed_line(line.partition(', "seal"')[0] + "}") == VALUE


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_is_noticed_wherever_it_falls(bit: int) -> None:
    line = sealed_line(VALUE).encode()
    for place in range(len(line)):
        changed = line[:place] + bytes([line[place] ^ 1 << bit]) + line[place + 1:]
        try:
            found = unsealed_line(changed)
        except DamagedLine:
            continue
        assert found == VALUE


def test_damaged_lines_are_taken_out_with_one_warning_and_the_others_stay(tmp_path: Path,
                                                                          caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "lines.jsonl"
    whole, other, old = sealed_line({"value": 1}), sealed_line({"value": 2}), '{"value": 3}'
    append_lines(file, ["a head of another form", whole, other.replace("2", "5", 1), '{"value"= 4}', old])
    with file.open("ab") as torn:
        torn.write(b'{"val\xff')
    mend_lines(file, head=1)
    assert read_lines(file) == ["a head of another form", whole, old]
    said, = caplog.records
    assert said.levelno == logging.WARNING
    assert said.getMessage() == f"{file} has damaged lines (2); what they kept is made again"
    before = file.stat()
    mend_lines(file, head=1)
    mend_lines(tmp_path / "nothing")
    assert (before.st_ino, before.st_mtime_ns) == (file.stat().st_ino, file.stat().st_mtime_ns)
    assert len(caplog.records) == 1


def test_what_a_damaged_line_said_of_an_image_is_looked_at_again(tmp_path: Path, caplog: pytest.LogCaptureFixture
                                                                 ) -> None:
    asked = list[list[int]]()

    def look(places: list[int]) -> list[tuple[bool, str]]:
        asked.append(places)
        return [(place == 1, "") for place in places]

    file, keys = tmp_path / "sights.jsonl", ["a", "b", "c"]
    told = Sights(file, current()).found(keys, look, 8)
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], lines[1].replace("true", "false"), lines[2].partition(', "seal"')[0] + "}"])
                    + "\n")
    assert Sights(file, current()).found(keys, look, 8) == told
    assert asked == [[0, 1, 2], [1]]
    assert caplog.text.count(f"{file} has damaged lines (1)") == 1
