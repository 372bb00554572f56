"""A stand-in for the Hub, and an edit with records of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "evidence"))

from bundles import small_run
from hub_server import Hub, running

Call = Callable[..., "Called"]


class Called(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def edit(pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from expunge.models.store import load

    return small_run(load(pipeline_folder, device="cpu"), tmp_path_factory.mktemp("edit") / "church")


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running() as made:
        yield made


@pytest.fixture
def call(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """The command line in a folder of its own, with the stand-in for the Hub."""
    from huggingface_hub import constants

    from expunge.cli import run

    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    for name, value in {"HF_TOKEN": "hf_none", "NO_PROXY": "*"}.items():
        monkeypatch.setenv(name, value)
    for name, value in {"ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path / "hf"), "HF_HUB_OFFLINE": False,
                        "HUGGINGFACE_CO_URL_TEMPLATE": hub.url + "/{repo_id}/resolve/{revision}/{filename}"}.items():
        monkeypatch.setattr(constants, name, value)

    def called(*words: object) -> Called:
        capsys.readouterr()
        code = run([str(word) for word in words])
        said = capsys.readouterr()
        return Called(code, said.out, said.err)

    return called
