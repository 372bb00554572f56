"""A served folder with a patch, made by the page's own code on a very small model that has a judge."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the extra `ui` is not installed")

from expunge.registry import WORLDS
from expunge.ui.asked import Edit
from expunge.ui.erasing import erasing
from expunge.ui.jobs import Job
from expunge.ui.served import Served
from expunge.ui.shown import Shown

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def _sides_is_a_world(monkeypatch: pytest.MonkeyPatch) -> None:
    """For these tests alone: what `expunge ls worlds` prints elsewhere stays what it is."""
    monkeypatch.setitem(WORLDS._entries, "sides", ("sides_world:sides_world", "a world of tests", ""))


@pytest.fixture(scope="session")
def small_model(v_pipeline_folder: Path) -> object:
    """Random weights, 16 x 16 pixels, in the embedded world: its judge answers, and finds nothing in particular."""
    from expunge.models.store import load

    return load(v_pipeline_folder, device="cpu")


@pytest.fixture(scope="session")
def _made(small_model: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    served = Served(tmp_path_factory.mktemp("made"), "small", lambda: small_model)  # type: ignore[arg-type]
    made = erasing(served, Shown(), Edit(concept="church", anchor="house", method="uce"), Job(1, "erase", "erasing"))
    (served.root / made["patch"]).rename(served.root / "church")
    return served.root / "church"


@pytest.fixture
def served(_made: Path, small_model: object, tmp_path: Path) -> Served:
    """A folder of its own with the patch "church"."""
    shutil.copytree(_made, tmp_path / "runs" / "church")
    return Served(tmp_path / "runs", "small", lambda: small_model)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def sides_model(v_pipeline_folder: Path) -> Any:
    """The same weights in a world in which about half of all pictures show the concept."""
    from expunge.models.store import load

    model = load(v_pipeline_folder, device="cpu")
    model.world = "sides"
    return model


@pytest.fixture
def sides(served: Served, sides_model: Any) -> Served:
    """The same folder, with that model."""
    return Served(served.root, "sides", lambda: sides_model)


@pytest.fixture
def job() -> Job:
    """A job that nobody runs: what is told is looked at."""
    return Job(1, "test", "testing")
