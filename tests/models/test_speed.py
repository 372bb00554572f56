"""A dry run costs a few rows, not a run: what is timed of slow and of fast models."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch

from expunge.models import speed
from expunge.models.speed import Speed, drawing_speed, seconds_each
from expunge.records import Sampler

CPU = torch.device("cpu")


def test_slow_rows_are_timed_once_and_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "SLOW", 0.01)
    rows: list[int] = []
    assert seconds_each(lambda count: rows.append(count) or time.sleep(0.02), 16, CPU) >= 0.02
    assert rows == [1]


def test_fast_rows_are_timed_as_a_batch() -> None:
    rows: list[int] = []
    seconds_each(rows.append, 16, CPU)
    assert rows == [1, 16, 16, 16]


def test_picture_of_a_slow_model_costs_a_row_and_a_decoding(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "SLOW", 0.0)
    rows = {"predict": 0, "decode": 0}

    def counting(name: str) -> Any:
        real = getattr(model, name)
        return lambda x, *more: rows.__setitem__(name, rows[name] + len(x)) or real(x, *more)

    monkeypatch.setattr(model, "predict", counting("predict"))
    monkeypatch.setattr(model, "decode", counting("decode"))
    told = drawing_speed(model, Sampler(steps=50, guidance=7.5), 32)
    assert rows == {"predict": 1, "decode": 1}
    assert told.row > 0
    assert told.picture(Sampler(steps=50, guidance=7.5)) == 100 * told.row + told.decode
    assert Speed(2.0, 1.0, "classifier-free").picture(Sampler(steps=3, guidance=1.0)) == 7.0
    assert Speed(2.0, 1.0, "classifier-free").picture(Sampler(steps=3, guidance=2.0)) == 13.0
    assert Speed(2.0, 1.0, "embedded").picture(Sampler(steps=3, guidance=2.0)) == 7.0  # told, in one pass
