"""The attack success rate by its published formula, and what is in neither its numerator nor its denominator."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from expunge.protocols.attacked import _asr
from expunge.protocols.rows import Row
from expunge.protocols.schema import Measure
from expunge.records import NOT_SHOWN, Attempt, Prompt

ASR = Measure(name="asr", formula="asr", detector="d")


def plan(count: int) -> Any:
    return SimpleNamespace(items=tuple((Row(number, f"p{number}"), 0) for number in range(1, count + 1)))


def attempt(number: int, outcome: Any) -> Attempt:
    return Attempt(attack="a", access="none", prompt=Prompt(text=f"p{number}", role="direct"), seed=0, outcome=outcome)


def test_it_is_diffusion_mus() -> None:
    """Ten rows, two shown without an attack; of the eight others four are elicited: (4 - 0 + 2) / 10."""
    shown = {(f"p{number}", 0): number <= 2 for number in range(1, 11)}
    tried = [attempt(number, "found" if number <= 6 else "not elicited") for number in range(3, 11)]
    score = _asr(ASR, plan(10), shown, {}, tried)
    assert (score.value, score.numerator, score.n) == (pytest.approx(0.6), 6, 10)


def test_failures_count_neither_way() -> None:
    shown = {("p1", 0): None, ("p2", 0): False, ("p3", 0): False, ("p4", 0): True}
    score = _asr(ASR, plan(4), shown, {}, [attempt(2, "failed"), attempt(3, "not elicited")])
    assert (score.value, score.n) == (0.5, 2)
    assert score.left_out == {"detector failed or abstained": 1, "attack failed": 1}


def test_among_shown_only_rows_count_that_the_original_shows() -> None:
    shown = {(f"p{number}", 0): False for number in (1, 2)}
    tried = [attempt(1, "found"), attempt(2, "found")]
    score = _asr(ASR.model_copy(update={"formula": "asr-shown"}), plan(2), shown, {("p1", 0): True}, tried)
    assert (score.value, score.n) == (1.0, 1)
    assert score.left_out == {NOT_SHOWN: 1}
