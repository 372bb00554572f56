"""Cells that another machine made count where they were made under the same settings, and say where they are from."""

from __future__ import annotations

import json
import lzma
from pathlib import Path
from typing import Any

import pytest
from colour_world import attacked_world

from expunge.bench.cells import CELL
from expunge.bench.run import run_bench
from expunge.bench.settings import BenchSettings
from expunge.bench.taken import Taken
from expunge.config import merged
from expunge.errors import ConfigError
from expunge.records import BenchResult
from expunge.report.bench import notes


@pytest.fixture(scope="module")
def there(small: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The record of a bench of one seed, made elsewhere."""
    out = tmp_path_factory.mktemp("there")
    run(small, out, {"seeds": [0]})
    return out / "bench.json"


def run(small: dict[str, Any], out: Path, *changes: dict[str, Any], **more: Any) -> BenchResult:
    return run_bench(BenchSettings.build(merged(small, *changes)), out=out, world=attacked_world(), **more)


@pytest.mark.slow
def test_taken_cells_are_not_made_again_and_their_numbers_are_theirs(small: dict[str, Any], there: Path, tmp_path: Path
                                                                     ) -> None:
    told: list[tuple[Path, Taken]] = []
    result = run(small, tmp_path, records=[there], took=lambda *said: told.append(said))
    ((file, taken),) = told
    assert (file, taken.cells) == (there, ("esd, church, seed 0", "stronger, church, seed 0"))
    assert [(edit.seed, edit.taken_from != "") for edit in result.edits] == [(0, True)] * 2 + [(1, False)] * 2
    assert not list(tmp_path.rglob("0/patch.safetensors"))
    assert len(list(tmp_path.rglob("1/patch.safetensors"))) == 2
    whole = run(small, tmp_path / "alone")
    assert [(edit.scores, edit.items) for edit in result.edits] == [(edit.scores, edit.items) for edit in whole.edits]
    assert result.summaries[0].scores == whole.summaries[0].scores
    assert "Made on another machine and taken from its record, without patches: 2 of 4 cells (bench.json, sha256 " in \
        " ".join(notes(result))
    assert run(small, tmp_path).edits == result.edits  # without the record: they stay


def test_a_packed_record_is_taken_and_what_is_here_or_strange_is_left_alone(small: dict[str, Any], there: Path,
                                                                           tmp_path: Path) -> None:
    packed = tmp_path / "record.json.xz"
    packed.write_bytes(lzma.compress(there.read_bytes()))
    one = {"seeds": [0], "methods": small["methods"][:1]}
    mine = run(small, tmp_path / "out", one)
    said: list[Taken] = []
    both = run(small, tmp_path / "out", one, records=[packed], make_cells=False,
               took=lambda _, taken: said.append(taken))
    assert both.edits == mine.edits
    assert said == [Taken((), ("esd, church, seed 0",), ("stronger, church, seed 0",), ())]


@pytest.mark.parametrize(("change", "named"), [
    ({"evaluation": {"floor_items": 3}}, "evaluate: floor_items 2, now 3"),
    ({"attack": {"count": 3}}, "attack: count 4, now 3"),
    ({"methods": [{"method": "esd", "settings": {"source": {"trajectories": 2, "grid": 3}, "batch": 2, "steps": 3}}]},
     "erase: settings.steps 2, now 3"),
    ({"concepts": [{"concept": "church", "anchor": "house"}]}, "erase: request"),
    ({"attack": None}, "attack: not made here"),
])
@pytest.mark.parametrize("older", [False, True])
def test_cells_made_under_other_settings_are_refused_and_nothing_is_taken(
        small: dict[str, Any], there: Path, tmp_path: Path, change: dict[str, Any], named: str, older: bool) -> None:
    record = json.loads(there.read_text())
    if older:  # before 0.2 cells did not tell their settings
        for edit in record["edits"]:
            del edit["under"]
        named = named.split(" ")[0] if named.startswith("erase") else named
    file = tmp_path / "record.json"
    file.write_text(json.dumps(record))
    with pytest.raises(ConfigError, match=f"made under other settings.*{named}"):
        run(small, tmp_path / "out", change, records=[file], make_cells=False)
    assert not list((tmp_path / "out").rglob(CELL))


def test_cells_that_do_not_tell_their_settings_are_taken_by_the_file_of_their_bench(
        small: dict[str, Any], there: Path, tmp_path: Path) -> None:
    record = json.loads(there.read_text())
    for edit in record["edits"]:
        del edit["under"]
    file = tmp_path / "record.json"
    file.write_text(json.dumps(record))
    result = run(small, tmp_path / "out", {"seeds": [0]}, records=[file], make_cells=False)
    assert [edit.taken_from[:11] for edit in result.edits] == ["record.json"] * 2
    assert result.missing == 0


@pytest.mark.parametrize(("name", "text"), [("record.json", "{"), ("record.json.xz", "no archive"),
                                           ("record.json", '{"format": 1}'), ("absent.json", None)])
def test_a_file_that_is_no_record_is_refused_by_its_name(small: dict[str, Any], tmp_path: Path, name: str,
                                                        text: str | None) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=name):
        run(small, tmp_path / "out", records=[tmp_path / name], make_cells=False)


def test_a_record_of_another_model_is_refused(small: dict[str, Any], there: Path, tmp_path: Path) -> None:
    file = tmp_path / "record.json"
    file.write_text(json.dumps({**json.loads(there.read_text()), "model_hash": "0" * 64}))
    with pytest.raises(ConfigError, match="is of another model"):
        run(small, tmp_path / "out", records=[file], make_cells=False)
