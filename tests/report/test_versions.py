"""Figures carry the version that made them, and what was checked of them."""

from __future__ import annotations

from expunge.records import BenchCheck, CheckedCell
from expunge.report.versions import check_sentence, several

NEW, OLD = {"expunge": "0.2", "torch": "2.9"}, {"expunge": "0.1", "torch": "2.9"}


def test_one_version_that_is_the_gathering_one_needs_no_words() -> None:
    assert several([NEW, NEW], NEW, "cells") == several([], NEW, "cells") == []


def test_other_versions_are_named_with_their_counts() -> None:
    assert several([OLD, NEW, OLD], NEW, "cells") == [
        "Cells come from several versions: 2 cells by expunge 0.1; 1 cell by expunge 0.2 (gathered by expunge 0.2)."]
    assert several([OLD], {**NEW, "torch": "3"}, "states") == [
        "All states come from another version: 1 state by expunge 0.1, torch 2.9 (gathered by expunge 0.2, torch 3)."]


def test_a_check_says_how_many_numbers_are_equal_and_which_do_not_agree() -> None:
    same, near = CheckedCell(name="a", scores=5, equal=5), CheckedCell(name="b", scores=5, equal=3)
    apart = CheckedCell(name="c", scores=5, equal=4, apart=("fid: 1, again 2",))

    def told(*cells: CheckedCell) -> str:
        return check_sentence(BenchCheck(cells=cells, versions=NEW, created="2026-11-29T00:00"), 12)

    assert told(same) == ("Of 12 cells 1 was made again: 1 of 1 agree; 5 of 5 scores are equal, and none differs "
                          "(by expunge 0.2, 2026-11-29).")
    assert "2 of 2 agree; 8 of 10 scores are equal, and the others lie in each other's intervals" in told(same, near)
    assert "1 of 2 agree; 9 of 10 scores are equal, and these lie outside each other's intervals: c, fid: 1, again 2" \
        in told(same, apart)
