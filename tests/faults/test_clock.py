"""Clocks that are set back: times are told, and decide nothing."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from expunge.models.cache import ImageCache
from expunge.models.cache_size import clear, usage, within
from expunge.records import Prompt, Sampler
from kept_files import told
from small_verbs import VERBS

pytestmark = pytest.mark.slow
"""It runs verbs twice."""

YEAR = 365 * 86400.0


def set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the clock by which files are judged go a year wrong."""
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() - YEAR)


@pytest.mark.parametrize("verb", ["erase", "attack", "bench", "guard learn"])
def test_a_run_that_goes_on_a_year_before_it_began_ends_the_same(verb: str, pipeline_folder: Path, tmp_path: Path,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    start, last, _ = VERBS[verb]

    def tell(done: int) -> None:
        if done == last:
            raise KeyboardInterrupt

    start(pipeline_folder, tmp_path / "whole", lambda done: None, False)
    with pytest.raises(KeyboardInterrupt):
        start(pipeline_folder, tmp_path / "cut", tell, False)
    set_back(monkeypatch)
    start(pipeline_folder, tmp_path / "cut", lambda done: None, False)
    assert told(tmp_path / "cut") == told(tmp_path / "whole")


def test_images_of_the_future_are_used_and_stay_in_the_cache(model: Any, tmp_path: Path) -> None:
    items, sampler = [(Prompt(text="a church", role="direct"), seed) for seed in range(2)], Sampler(steps=2)
    shots, pixels = ImageCache(tmp_path).draw(model, items, sampler)
    for record in tmp_path.rglob("*.json"):
        os.utime(record, (time.time() + YEAR, time.time() + YEAR))
    assert within(tmp_path, 0) == (0, 0), "what may be in use goes"
    again = ImageCache(tmp_path).draw(model, items, sampler)
    assert again[0] == shots
    assert again[1].equal(pixels)
    assert usage(tmp_path).pictures == 2
    assert clear(tmp_path)[0] == 2
