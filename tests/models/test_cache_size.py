"""The cache stays within its bound: what was not used for longest goes first, what is in use stays."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from expunge.cli import run
from expunge.errors import UserError
from expunge.models import cache, cache_size
from expunge.models.cache import ImageCache
from expunge.models.cache_size import SLACK, limit, make_room, usage, within
from expunge.records import ImageRecord, Prompt, Sampler


def filled(root: Path, ages: list[float]) -> list[Path]:
    """Images of a thousand bytes each, last used so many seconds ago."""
    return [written(root, number, age) for number, age in enumerate(ages)]


def written(root: Path, seed: int, age: float) -> Path:
    """The record of one of them."""
    shot = ImageRecord(prompt=Prompt(text="a church", role="direct"), seed=seed, sampler=Sampler(), model="m")
    place = f"2-aaaa/{shot.key[:2]}/{shot.key}.png"
    file = (root / place).with_suffix(".json")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(shot.model_copy(update={"file": place}).model_dump_json().ljust(600), encoding="utf-8")
    file.with_suffix(".png").write_bytes(b"x" * 400)
    os.utime(file, (time.time() - age,) * 2)
    return file


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    old, older, new = filled(tmp_path, [9_000, 90_000, 5_000])
    assert within(tmp_path, 2_000) == (1, 1_000)
    assert (old.exists(), older.exists(), new.exists()) == (True, False, True)
    assert not older.with_suffix(".png").exists()


def test_what_is_in_use_stays_whatever_the_bound(tmp_path: Path) -> None:
    filled(tmp_path, [10, 20])
    assert within(tmp_path, 0) == (0, 0)
    assert usage(tmp_path).size == 2_000


def test_bound_is_read_and_mistakes_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EXPUNGE_CACHE_LIMIT", raising=False)
    assert limit() == 20 * 2**30
    for told, most in (("0.5", 2**29), ("0", None)):
        monkeypatch.setenv("EXPUNGE_CACHE_LIMIT", told)
        assert limit() == most
    for told in ("many", "-1", "nan", "inf"):
        monkeypatch.setenv("EXPUNGE_CACHE_LIMIT", told)
        with pytest.raises(UserError, match="EXPUNGE_CACHE_LIMIT"):
            limit()


def test_drawing_makes_room_and_reading_counts_as_use(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
                                                      ) -> None:
    sampler, items = Sampler(steps=1, guidance=1.0), [(Prompt(text="a church", role="direct"), seed) for seed in (0, 1)]
    ImageCache(tmp_path).draw(model, items, sampler)
    (first, second) = tmp_path.glob("*/??/*.json")
    for record in (first, second):
        os.utime(record, (1e9, 1e9))
    ImageCache(tmp_path).draw(model, items[:1], sampler)  # read: one of the two was used now
    assert sorted(record.stat().st_mtime > 1e9 for record in (first, second)) == [False, True]
    monkeypatch.setenv("EXPUNGE_CACHE_LIMIT", "0.0000001")
    ImageCache(tmp_path).draw(model, [(items[0][0], 2)], sampler)
    assert usage(tmp_path).pictures == 2  # the one that was read and the new one


def test_cache_command_shows_and_clears(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled(tmp_path, [10, 40 * 86400])
    asked = ["cache", "--cache", str(tmp_path)]
    assert run(asked) == 0
    told = capsys.readouterr().out
    assert f"folder: {tmp_path}" in told
    assert "images: 2, 0.0 MiB, of 1 model," in told
    assert run([*asked, "--clear", "--unused", "30"]) == 0
    assert "removed: 1 images" in capsys.readouterr().out
    assert run([*asked, "--clear"]) == 0
    assert usage(tmp_path).pictures == 0
    assert run([*asked, "--unused", "3"]) == 2


def others(root: Path) -> dict[Path, bytes]:
    """A data set and other people's files, laid out and named as a cache's are."""
    shot = ImageRecord(prompt=Prompt(text="a church", role="direct"), seed=10**6, sampler=Sampler(), model="m")
    kept = {}
    for name, told in (("ds/cats/ab/1", '{"label": "cat"}'), (f"2-aaaa/ab/ab{'0' * 22}", "{}"),
                       (f"2-aaaa/ab/ab{'1' * 22}", shot.model_dump_json()), ("cats/ab/2", shot.model_dump_json()),
                       ("digests/notes", '{"a": "b"}'), (f"digests/{'a' * 32}", "[1]")):
        for suffix, content in ((".json", told.encode()), (".png", b"picture")):
            file = root / f"{name}{suffix}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            os.utime(file, (1e9, 1e9))
            kept[file] = content
    (root / "empty" / "ab").mkdir(parents=True)
    return kept


def test_clearing_a_cache_deletes_what_it_wrote_and_nothing_else(tmp_path: Path) -> None:
    kept, (record,) = others(tmp_path), filled(tmp_path, [9_000])
    cache_size.mark(tmp_path)
    assert run(["cache", "--cache", str(tmp_path), "--clear"]) == 0
    assert (record.exists(), record.with_suffix(".png").exists(), record.parent.exists()) == (False, False, False)
    assert {file: file.read_bytes() for file in kept} == kept
    assert (tmp_path / "empty" / "ab").is_dir()


def test_the_bound_deletes_what_a_cache_wrote_and_nothing_else(tmp_path: Path) -> None:
    kept, (record,) = others(tmp_path), filled(tmp_path, [9_000])
    assert within(tmp_path, 0)[0] == 1
    assert not record.exists()
    assert {file: file.read_bytes() for file in kept} == kept


def test_a_folder_that_is_no_cache_is_not_cleared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = others(tmp_path)
    assert run(["cache", "--cache", str(tmp_path), "--clear"]) == 2
    assert "is no cache of drawn images" in capsys.readouterr().err
    assert {file: file.read_bytes() for file in kept} == kept


def test_an_earlier_version_s_cache_is_cleared_without_a_marker_and_so_is_none_at_all(tmp_path: Path) -> None:
    filled(tmp_path / "old", [9_000, 9_000])
    for name, gone in (("old", True), ("new", False)):
        assert run(["cache", "--cache", str(tmp_path / name), "--clear"]) == 0
        assert (tmp_path / name).exists() == gone
    assert not [*(tmp_path / "old").iterdir()], "folders that are empty go with the last image"


def test_drawing_marks_the_cache_and_clearing_takes_pictures_drawn_again_as_well(model: Any, tmp_path: Path) -> None:
    items = [(Prompt(text="a church", role="direct"), 0)]
    for root in (tmp_path, tmp_path / f"{cache_size.APART}17"):
        ImageCache(root).draw(model, items, Sampler(steps=1, guidance=1.0))
    assert usage(tmp_path).pictures == 2
    assert cache_size.clear(tmp_path)[0] == 2
    assert [file.name for file in tmp_path.rglob("*")] == [cache_size.MARKER]


def test_a_cache_is_walked_at_first_and_then_only_after_enough_was_written(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    walked: list[int] = []

    def counting(root: Path, most: int, older: float = 0.0) -> tuple[int, int]:
        walked.append(most)
        return within(root, most)

    monkeypatch.setattr(cache_size, "within", counting)
    for wrote in (10, 10, 5, 6, 20):  # the bound is 1000 bytes, the slack 20
        make_room(tmp_path, 1_000, wrote)
    assert len(walked) == 2, "at first, and when 21 bytes were written since"
    make_room(tmp_path / "another", 1_000, 0)
    assert len(walked) == 3


def test_the_bound_holds_within_the_slack_whatever_is_written(tmp_path: Path) -> None:
    """Images of a thousand bytes, all old enough to go, into a cache of a hundred of them."""
    most, largest = 100_000, 0
    for number in range(150):
        written(tmp_path, number, 9_000 - number)
        make_room(tmp_path, most, 1_000)
        largest = max(largest, usage(tmp_path).size)
    assert largest <= (1 + SLACK) * most
    assert usage(tmp_path).pictures >= 98


def test_drawing_counts_what_it_writes(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []

    def noted(root: Path, most: int, wrote: int) -> tuple[int, int]:
        told.append(wrote)
        return 0, 0

    monkeypatch.setattr(cache, "make_room", noted)
    pictures, items = ImageCache(tmp_path), [(Prompt(text="a church", role="direct"), seed) for seed in (0, 1, 2)]
    pictures.draw(model, items[:2], Sampler(steps=1, guidance=1.0))
    first = usage(tmp_path).size
    pictures.draw(model, items, Sampler(steps=1, guidance=1.0))
    assert told == [first, usage(tmp_path).size - first]
