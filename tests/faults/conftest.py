"""A disk of a size that can be changed, and checkpoints at every step."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from small_verbs import checkpoint_at_every_step


class Disk:
    """A file system in memory. `folder`: where it is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def of(self, size: int, how: str = "rw") -> None:
        """Let it hold `size` bytes from now on."""
        subprocess.run(["mount", "-o", f"remount,{how},size={size}", self.folder], check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """An empty one of 64 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "expunge-tests", folder], check=True,
                       capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a file system")
    yield Disk(folder)
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(autouse=True)
def _checkpoint_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint_at_every_step(monkeypatch)
