"""What a run kept of images and texts is wiped when it is due or asked for, and nothing else."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from given import protocol, run, small_patch

from expunge.errors import ModelError
from expunge.files import read_lines
from expunge.protocols.attacked import attack_protocol
from expunge.protocols.result import ROWS, read_rows
from expunge.protocols.run import draw_original
from expunge.protocols.schema import Protocol
from expunge.protocols.settings import RunSettings
from expunge.protocols.wipe import UNTIL, due, keep_until, wipe
from expunge.sealed import unsealed_line


def test_texts_can_be_wiped_later(model: Any, asked: Protocol, files: dict[str, Path], tmp_path: Path) -> None:
    run(model, asked, files, tmp_path / "out")
    assert "number 3" in (tmp_path / "out" / ROWS).read_text(encoding="utf-8")
    wipe(tmp_path / "out", texts=True)
    assert all(b"number 3" not in file.read_bytes() for file in (tmp_path / "out").rglob("*") if file.is_file())
    assert [*read_rows(tmp_path / "out")][3].text_sha256


def test_what_is_due_is_wiped_and_nothing_else(model: Any, asked: Protocol, files: dict[str, Path], tmp_path: Path
                                               ) -> None:
    for name, days in (("soon", 3), ("later", 30), ("never", 0)):
        run(model, asked, files, tmp_path / name, store="pictures", keep_days=days)
    today = date.today()
    assert due(tmp_path, today + timedelta(days=2)) == []
    assert due(tmp_path, today + timedelta(days=3)) == [tmp_path / "soon"]
    assert due(tmp_path, today + timedelta(days=99)) == [tmp_path / "later", tmp_path / "soon"]
    keep_until(tmp_path / "soon", 90)  # a run that goes on keeps its day
    assert due(tmp_path, today + timedelta(days=3)) == [tmp_path / "soon"]
    wipe(tmp_path / "soon", texts=True)
    assert due(tmp_path, today + timedelta(days=3)) == []
    assert not [*(tmp_path / "soon").rglob("*.png")]
    assert len([*(tmp_path / "later").rglob("*.png")]) == len([*(tmp_path / "never").rglob("*.png")]) == 7
    (tmp_path / "later" / UNTIL).write_text('{"wipe": "soon"}', encoding="utf-8")
    with pytest.raises(ModelError, match="keep-until"):
        due(tmp_path)


def test_a_wipe_leaves_another_run_inside_the_folder(model: Any, asked: Protocol, files: dict[str, Path],
                                                     tmp_path: Path) -> None:
    run(model, asked, files, tmp_path / "out", store="pictures", keep_days=1)
    run(model, asked, files, tmp_path / "out" / "another", store="pictures")
    assert wipe(tmp_path / "out", texts=True)["images"] == 7
    assert len([*(tmp_path / "out" / "another").rglob("*.png")]) == 7
    assert "number 3" in (tmp_path / "out" / "another" / ROWS).read_text(encoding="utf-8")


def test_the_images_of_an_attack_and_of_its_plain_run_are_due_together(model: Any, files: dict[str, Path],
                                                                       tmp_path: Path) -> None:
    measures = [{"name": "asr", "formula": "asr", "detector": "object"}]
    asked = Protocol.build(protocol(attack={"name": "seed-search", "settings": {"tries": 1}},
                                    scores=measures))
    attack_protocol(model, asked, small_patch(model), files=files, out=tmp_path / "out",
                    settings=RunSettings(batch=2, store="pictures", keep_days=3, limit=2))
    day = date.today() + timedelta(days=3)
    assert due(tmp_path, day) == [tmp_path / "out"]
    assert [*(tmp_path / "out").rglob("*.png")]
    kept, = (tmp_path / "out").glob("*/attempts.jsonl")
    head, first, *others = read_lines(kept)
    assert "church" in first
    kept.write_text("\n".join([head, first.replace("church", "chorch"), *others]) + "\n")
    part = kept.with_name("attempts-1.jsonl")  # as a second process leaves it that was stopped
    part.write_text("\n".join([head, *others]) + "\n")
    assert wipe(tmp_path / "out", texts=True)["attempts"] == 2 * len(others) > 0
    assert due(tmp_path, day) == []
    assert not [*(tmp_path / "out").rglob("*.png")]
    for file in (kept, part):
        assert [unsealed_line(line)["text"] for line in read_lines(file)[1:]] == [""] * len(others)
        assert "number" not in file.read_text()


def test_what_an_original_or_a_stopped_run_left_can_be_wiped_too(model: Any, asked: Protocol, files: dict[str, Path],
                                                                 tmp_path: Path) -> None:
    draw_original(model, asked, files=files, settings=RunSettings(batch=2, store="pictures"), out=tmp_path / "original")
    assert wipe(tmp_path / "original", texts=True) == {"images": 7, "attempts": 0, "rows": 0}
    assert all(b"number 3" not in file.read_bytes() for file in (tmp_path / "original").rglob("*") if file.is_file())
