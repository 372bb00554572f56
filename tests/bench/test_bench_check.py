"""Cells of other versions: made again and compared, told in the tables, refused where they come out otherwise."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from colour_world import attacked_world

from expunge import runtime
from expunge.bench.cells import CELL
from expunge.bench.check import agree, compared_cell
from expunge.bench.run import run_bench
from expunge.bench.settings import BenchSettings
from expunge.config import merged
from expunge.errors import ConfigError, UserError
from expunge.records import BenchResult, Edit, Score
from expunge.report.bench import notes

OLDER = {**runtime.versions(), "expunge": "0.0.9"}


def score(value: float | None, low: float | None = None, high: float | None = None, name: str = "found/all") -> Score:
    return Score(name=name, title="", value=value, low=low, high=high)


@pytest.mark.parametrize(("a", "b", "same"), [
    (score(0.5), score(0.5), True), (score(0.5), score(0.6), False), (score(0.5, 0.4, 0.7), score(0.6), True),
    (score(0.5), score(0.6, 0.5, 0.7), True), (score(0.5, 0.4, 0.55), score(0.6, 0.58, 0.7), False),
    (score(None), score(None), True), (score(None), score(0.5), False)])
def test_numbers_agree_where_they_are_equal_or_one_lies_in_the_others_interval(a: Score, b: Score, same: bool) -> None:
    assert agree(a, b) is agree(b, a) is same


def test_a_score_that_only_one_of_two_cells_has_does_not_agree() -> None:
    edit = Edit(method="m", preset="m", concept="church", seed=0, scores=(score(0.5), score(1.0, name="fid/original")))
    cell = compared_cell("c", edit, edit.model_copy(update={"scores": (score(0.5),)}))
    assert (cell.scores, cell.equal, cell.apart) == (2, 1, ("fid/original: 1, again not there",))


@pytest.fixture(scope="module")
def done(small: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    out = tmp_path_factory.mktemp("bench")
    one = merged(small, {"methods": small["methods"][:1], "cache": str(out / "pictures")})
    run_bench(BenchSettings.build(one), out=out, world=attacked_world())
    return one, out


@pytest.fixture
def older(done: tuple[dict[str, Any], Path], tmp_path: Path) -> tuple[BenchSettings, Path]:
    """A copy of the bench whose first cell was made by an earlier version, which had no `floor_items`."""
    settings, out = done
    shutil.copytree(out, tmp_path / "bench", ignore=shutil.ignore_patterns("pictures"))
    cell = next((tmp_path / "bench" / "cells").rglob(CELL)).parent
    edit = json.loads((cell / CELL).read_text())
    del edit["seal"]
    (cell / CELL).write_text(json.dumps({**edit, "versions": OLDER}))
    file = cell / "evaluation" / "settings.json"
    told = json.loads(file.read_text())
    del told["distance"]
    file.write_text(json.dumps(told))
    return BenchSettings.build(settings), tmp_path / "bench"


def gathered(older: tuple[BenchSettings, Path], **more: Any) -> BenchResult:
    settings, out = older
    return run_bench(settings, out=out, world=attacked_world(), make_cells=False, **more)


def test_cells_that_do_not_tell_the_models_parts_are_taken_and_those_of_others_are_not(older: tuple[BenchSettings, Path]
                                                                                     ) -> None:
    _, out = older
    for file in out.rglob("settings.json"):
        told = json.loads(file.read_text())
        if told.pop("parts", ""):
            file.write_text(json.dumps(told))
    assert any(word.startswith("erase: parts ") for word in gathered(older).unknown)
    file = next(file for file in out.rglob("settings.json") if "process" in json.loads(file.read_text()))
    file.write_text(json.dumps({**json.loads(file.read_text()), "parts": "2-other"}))
    with pytest.raises(ConfigError, match=r"begun under other settings.*parts"):
        gathered(older)


def test_cells_of_several_versions_are_told_with_what_they_did_not_know(older: tuple[BenchSettings, Path]) -> None:
    result = gathered(older)
    told = " ".join(notes(result))
    assert "Cells come from several versions" in told
    assert "1 cell by expunge 0.0.9" in told
    assert result.unknown == ('evaluate: distance "default"',)
    assert "was not checked: `expunge bench FILE --check 3`" in told


def test_cells_made_again_agree_and_are_of_the_older_version_first(older: tuple[BenchSettings, Path]) -> None:
    result = gathered(older, check=1)
    assert result.check is not None
    (cell,) = result.check.cells
    assert cell.versions == OLDER
    assert cell.patch_same
    assert cell.equal == cell.scores > 10
    assert not cell.apart
    assert gathered(older).check == result.check
    assert "Of 2 cells 1 was made again: 1 of 1 agree" in " ".join(notes(result))
    assert not list(older[1].glob("check-*"))


def test_a_bench_of_an_older_version_whose_numbers_do_not_hold_is_refused(older: tuple[BenchSettings, Path]) -> None:
    for file in older[1].rglob(CELL):
        edit = json.loads(file.read_text())
        if edit["versions"] == OLDER:
            edit["scores"] = [{**one, "value": 7.0, "low": None, "high": None} if one["name"] == "found/all" else one
                              for one in edit["scores"]]
            file.write_text(json.dumps({name: value for name, value in edit.items() if name != "seal"}))
    with pytest.raises(ConfigError, match=r"came out otherwise .*found/all: 7, again"):
        gathered(older, check=1)
    with pytest.raises(ConfigError, match="came out otherwise"):
        gathered(older)


def test_a_check_of_more_cells_than_there_are_is_refused(older: tuple[BenchSettings, Path]) -> None:
    with pytest.raises(UserError, match="accepted: 1 to 2"):
        gathered(older, check=3)


def test_a_setting_that_did_not_exist_and_is_not_at_its_default_is_refused(older: tuple[BenchSettings, Path]) -> None:
    settings, out = older
    other = settings.model_copy(update={"evaluation": settings.evaluation.model_copy(update={"distance": "lpips"})})
    with pytest.raises(ConfigError, match="distance"):
        run_bench(other, out=out, world=attacked_world(), make_cells=False)


def test_attacks_drawn_otherwise_than_the_evaluation_are_refused_before_anything_is_made(small: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"attack.steps 3 beside evaluation.steps 2"):
        BenchSettings.build(merged(small, {"attack": {"steps": 3}}))
