"""Attacks in several processes of one launcher: the record of one, and a process that dies costs what it was at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from expunge.attacks.settings import AttackSettings
from expunge.attacks.trial import read_attempts
from expunge.models.store import load
from expunge.unlearn.erase import erase
from launching import finished, launch

pytestmark = pytest.mark.slow
"""It attacks in several processes, time and again."""

SETTINGS = AttackSettings(count=16, seeds=4, steps=2, guidance=1.0, attacks=("seed-search", "soft-prompt"), fresh=1,
                          each=True, force=True, control_items=0, batch=4,
                          options={"seed-search": {"tries": 3}, "soft-prompt": {"steps": 3}})
WORKER = """
import json, os, sys

folder, patch, out, settings, worlds = sys.argv[1:]
sys.path.insert(0, worlds)
from colour_world import attacked_world

from expunge.attacks.settings import AttackSettings
from expunge.attacks.suite import attack
from expunge.models.patch import Patch
from expunge.models.store import load


def tell(done, total, name):
    if done > 1 and name == os.environ.get("DIES_AT") and os.environ["RANK"] == "1":
        os._exit(9)


made = attack(load(folder, device="cpu"), Patch.load(patch), settings=AttackSettings(**json.loads(settings)), out=out,
              world=attacked_world(), progress=tell)
print(json.dumps(made.model_dump(mode="json")))
"""


@pytest.fixture(scope="module")
def begun(pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Model and patch."""
    folder = tmp_path_factory.mktemp("edit")
    model = load(pipeline_folder, device="cpu")
    patch = erase(model, "church", "esd", seed=0, own_look=False, settings={
        "source": {"trajectories": 2, "grid": 3}, "batch": 2, "steps": 4, "learning_rate": 0.05})
    patch.save(folder / "patch")
    return [str(pipeline_folder), str(folder / "patch")]


def command(begun: list[str], out: Path) -> list[str]:
    worlds = Path(__file__).parents[1] / "evaluation"
    return ["-c", WORKER, *begun, str(out), SETTINGS.model_dump_json(), str(worlds)]


def record(out: Path) -> Any:
    """All that does not depend on the clock."""
    made = json.loads((out / "attack.json").read_text(encoding="utf-8"))
    for run in made["runs"]:
        for attempt in run["attempts"]:
            del attempt["spent"]["seconds"]
    return {name: value for name, value in made.items() if name not in {"seconds", "created"}}


@pytest.fixture(scope="module")
def alone(begun: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone")
    finished(launch(1, command(begun, out)))
    return out


@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_several_processes_give_the_record_of_one(begun: list[str], alone: Path, tmp_path: Path, count: int) -> None:
    finished(launch(count, command(begun, tmp_path)))
    assert record(tmp_path) == record(alone)
    assert len(record(alone)["runs"][0]["attempts"]) > 4
    assert {file.name for file in tmp_path.rglob("*.jsonl")} == {"attempts.jsonl", "sights.jsonl"}


@pytest.mark.parametrize("count", [1, 3])
def test_what_a_process_left_that_died_is_gone_on_from_in_any_number_of_them(
        begun: list[str], alone: Path, tmp_path: Path, count: int) -> None:
    first, second = launch(2, command(begun, tmp_path), {"DIES_AT": "soft-prompt"})
    assert second.wait(120) == 9
    first.kill()  # as its launcher does
    first.communicate()
    parts = [*(tmp_path / "soft-prompt").glob("attempts-*.jsonl")]
    kept = sum(len(file.read_text(encoding="utf-8").splitlines()) - 1 for file in parts)
    assert kept > 0
    finished(launch(count, command(begun, tmp_path)))
    assert record(tmp_path) == record(alone)
    assert len(read_attempts(tmp_path / "soft-prompt")) == len(record(alone)["runs"][1]["attempts"])
    assert not [*tmp_path.rglob("attempts-*.jsonl")]
