"""An evaluation in several processes of one launcher: the record of one, judged and measured by all of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from colour_world import edit

from expunge.models.store import load
from launching import finished, launch

pytestmark = pytest.mark.slow
"""It evaluates in several processes, time and again."""

WORKER = """
import os, sys

folder, patch, out, worlds = sys.argv[1:]
sys.path.insert(0, worlds)
from colour_world import SMALL, colour_world

from expunge.evaluation import evaluate
from expunge.metrics import judging
from expunge.models.patch import Patch
from expunge.models.store import load

asked, ask = [], judging.ask
judging.ask = lambda judge, pictures: asked.append(len(pictures)) or ask(judge, pictures)
judging.chunk_of = lambda pictures, chunk=128: 4
evaluate(load(folder, device="cpu"), Patch.load(patch), settings=SMALL, out=out, world=colour_world(),
         cache=out + "-cache")
with open(f"{out}-asked-{os.environ['RANK']}", "w") as file:
    print(sum(asked), file=file)
"""
CLOCK = {"seconds", "created"}


@pytest.fixture(scope="module")
def begun(pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Model and patch."""
    folder = tmp_path_factory.mktemp("edit")
    edit(load(pipeline_folder, device="cpu"), 0.5).save(folder / "patch")
    return [str(pipeline_folder), str(folder / "patch")]


def evaluated(begun: list[str], out: Path, count: int) -> dict[str, Any]:
    """The record, without what the clock says."""
    finished(launch(count, ["-c", WORKER, *begun, str(out), str(Path(__file__).parent)]))
    made = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    return {name: value for name, value in made.items() if name not in CLOCK}


def asked(out: Path, count: int) -> list[int]:
    """How many images each process judged."""
    return [int(Path(f"{out}-asked-{rank}").read_text(encoding="utf-8")) for rank in range(count)]


@pytest.fixture(scope="module")
def alone(begun: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    out = tmp_path_factory.mktemp("alone") / "out"
    return evaluated(begun, out, 1), out


@pytest.mark.parametrize("count", [2, 3])
def test_several_processes_give_the_record_of_one_and_share_the_judging(
        begun: list[str], alone: tuple[dict[str, Any], Path], tmp_path: Path, count: int) -> None:
    record, first = alone
    assert evaluated(begun, tmp_path / "out", count) == record
    assert (tmp_path / "out" / "judgments.jsonl").read_bytes() == (first / "judgments.jsonl").read_bytes()
    (whole,), shares = asked(first, 1), asked(tmp_path / "out", count)
    assert sum(shares) == whole > 0
    assert max(shares) <= whole / count + 2 * 4  # each side ends with a chunk that cannot be shared


def test_what_was_judged_already_is_not_judged_again_by_any_of_them(
        begun: list[str], alone: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    record, first = alone
    lines = (first / "judgments.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "judgments.jsonl").write_text("".join(lines[:8]), encoding="utf-8")
    assert evaluated(begun, tmp_path / "out", 2) == record
    assert sum(asked(tmp_path / "out", 2)) == asked(first, 1)[0] - 8
