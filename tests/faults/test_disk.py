"""Disks that are full, folders that cannot be written, and folders in which somebody else is at work."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from expunge.errors import StorageError, UserError
from expunge.locks import held
from kept_files import raw, told
from small_verbs import VERBS

PAGE = 4096
"""Bytes of which a file takes whole ones."""


@pytest.fixture(scope="module")
def whole(pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What each verb leaves where there is room: its folder, made when it is asked for."""
    made: dict[str, Path] = {}

    def of(verb: str) -> Path:
        if verb not in made:
            made[verb] = tmp_path_factory.mktemp("whole") / "out"
            VERBS[verb][0](pipeline_folder, made[verb], lambda done: None, False)
        return made[verb]

    return of


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_full_disk_is_a_storage_error_and_with_room_the_same_command_ends_the_same(
        verb: str, share: float, disk: Any, whole: Any, pipeline_folder: Path) -> None:
    meant, out = whole(verb), disk.folder / "out"
    pages = sum(-(-len(file) // PAGE) for file in raw(meant).values())
    disk.of(max(1, int(share * pages)) * PAGE)
    with pytest.raises(StorageError, match="free some space"):
        VERBS[verb][0](pipeline_folder, out, lambda done: None, False)
    assert not [file for file in disk.folder.rglob("*") if "part" in file.name]
    disk.of(2**26)
    VERBS[verb][0](pipeline_folder, out, lambda done: None, False)
    assert told(out) == told(meant)


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "a user's training"])  # whoever calls it looks
def test_a_folder_that_cannot_be_written_is_refused_before_the_work(verb: str, disk: Any, pipeline_folder: Path
                                                                   ) -> None:
    steps: list[int] = []
    disk.of(2**26, "ro")
    with pytest.raises(StorageError, match="cannot write"):
        VERBS[verb][0](pipeline_folder, disk.folder / "out", steps.append, False)
    assert not any(steps)


@contextmanager
def at_work_in(folder: Path) -> Iterator[None]:
    """Inside, another thread writes there: locks take it for another process."""
    begun, ended = threading.Event(), threading.Event()

    def work() -> None:
        with held(folder) as mine:
            assert mine
            begun.set()
            ended.wait(60)

    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(60)
    try:
        yield
    finally:
        ended.set()
        thread.join()


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in ("a user's training", "bench")])
def test_the_second_of_two_runs_in_a_folder_is_refused(verb: str, pipeline_folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "relearning" if verb == "relearn" else tmp_path  # attacks may write beside it
    with at_work_in(place), pytest.raises(UserError, match=r"another (run|process) .*wait for it"):
        VERBS[verb][0](pipeline_folder, tmp_path, lambda done: None, False)
    assert raw(tmp_path) == {}
