"""The examples on docs/continual.md run, and show what they are there to show."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from expunge.continual import OBJECTIVES, REFRESHES

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "continual.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def test_first_example_shows_what_replay_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    with torch.random.fork_rng(devices=[]):
        exec(BLOCKS[0], {})
    forgotten = [float(number) for number in re.findall(r"forgotten (-?[\d.]+)", capsys.readouterr().out)]
    assert len(forgotten) == 2
    assert forgotten[0] > 0.5
    assert forgotten[1] < 0.1


def test_second_example_runs() -> None:
    names: dict[str, object] = {}
    exec(BLOCKS[1], names)
    assert 0 < float(names["loss"]) < 3  # type: ignore[arg-type]
    assert names["ascent"] is None  # step 9 is not due


def test_page_names_every_preset() -> None:
    assert [name for name in (*OBJECTIVES, *REFRESHES) if f"`{name}`" not in PAGE] == []
