"""Scores of a sequence, against values worked out by hand."""

from __future__ import annotations

import pytest

from expunge.continual.scores import AccuracyMatrix

SEQUENCE = AccuracyMatrix(rows=((0.9,), (0.6, 0.8), (0.7, 0.5, 1.0)))


def test_scores_are_those_worked_out_by_hand() -> None:
    assert SEQUENCE.final_average == pytest.approx((0.7 + 0.5 + 1.0) / 3)
    assert SEQUENCE.forgetting == pytest.approx(((0.9 - 0.7) + (0.8 - 0.5)) / 2)
    assert SEQUENCE.backward_transfer == pytest.approx(((0.7 - 0.9) + (0.5 - 0.8)) / 2)
    assert SEQUENCE.learned == pytest.approx((0.9 + 0.8 + 1.0) / 3)


def test_forgetting_is_from_the_best_before_the_last_and_may_be_a_gain() -> None:
    risen = AccuracyMatrix(rows=((0.2,), (0.6, 0.5), (0.5, 0.9, 0.9)))
    assert risen.forgetting == pytest.approx(((0.6 - 0.5) + (0.5 - 0.9)) / 2)
    assert risen.backward_transfer == pytest.approx(((0.5 - 0.2) + (0.9 - 0.5)) / 2)


def test_a_single_task_forgets_nothing() -> None:
    one = AccuracyMatrix(rows=((0.75,),))
    assert (one.final_average, one.forgetting, one.backward_transfer) == (0.75, 0.0, 0.0)


def test_matrices_that_are_none_are_refused() -> None:
    for rows, words in (((), "one row at least"), (((0.5,), (0.5,)), r"k \+ 1 entries"),
                        (((1.5,),), "between 0 and 1")):
        with pytest.raises(ValueError, match=words):
            AccuracyMatrix(rows=rows)
    assert AccuracyMatrix.read(SEQUENCE.model_dump_json()) == SEQUENCE
