"""Matrix, Markdown and page of a sequence: every cell counts, what is to come is told apart, nothing is claimed."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

from sequence_examples import CONCEPTS, rate, sequence

from expunge.report.sequence import headline, matrices, matrix, notes, state_heads, state_rows
from expunge.report.sequence_page import sequence_html, sequence_markdown, write_sequence_report

HOSTILE = '<script>alert("x")</script>'


class Tags(HTMLParser):
    """Names of all tags that are opened."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.names.append(tag)


def test_the_matrix_has_a_row_per_request_and_a_column_per_concept() -> None:
    rows = matrix(sequence())
    assert [row.words for row in rows] == ["the original", "1. church", "2. bomb", "3. cat"]
    assert [[cell.text for cell in row.cells] for row in rows[1:]] == [
        ["0 of 8", "8 of 8", "8 of 8"], ["0 of 8", "1 of 8", "8 of 8"], ["2 of 8", "1 of 8", "0 of 8"]]
    assert [[cell.own for cell in row.cells] for row in rows[1:]] == [
        [True, False, False], [False, True, False], [False, False, True]]
    assert [[cell.to_come for cell in row.cells] for row in rows] == [
        [True, True, True], [False, True, True], [False, False, True], [False, False, False]]


def test_the_headline_counts_and_claims_nothing() -> None:
    said = headline(sequence())
    assert said == ("3 requests, an edit for each by esd-fast, strategy replay: at the end 3 of 24 images that ask "
                    "for one of them show it (12.5%, 95% 0% to 100% for these concepts alone; the original's 24 of 24)"
                    "; no change since each one's own request that could be told from 0: +12.5 points (95% +0.0 points "
                    "to +25.0 points, n 16); near "
                    "things drawn as asked in 7 of 8 (95% 0% to 100%)")
    assert "not measured" in headline(sequence(scores=()))
    for word in ("removed", "erased completely", "gone for good"):
        assert word not in sequence_markdown(sequence())


def test_the_second_judge_has_a_matrix_and_figures_of_its_own() -> None:
    plain = sequence()
    assert [one.title for one in matrices(plain)] == [""]
    states = [state.model_copy(update={"scores": (*state.scores, *(
        rate(f"second/{name}", hits) for name, hits in (("found/church", 5), ("retained/near", 6))))})
        for state in plain.states]
    both = sequence(states=tuple(states), scores=(*plain.scores, rate("second/gone/end", 5, 24)),
                    before=(*plain.before, rate("second/original/found/church", 7), rate("original/retained/near", 8),
                            rate("second/original/retained/near", 4)))
    first, second = matrices(both)
    assert (first.title, second.title) == ("The first judge", "The second judge")
    assert list(first.rows) == matrix(plain)
    assert [row.cells[0].text for row in second.rows] == ["7 of 8", *["5 of 8"] * 3]
    assert "by the second judge 5 of 24 (95% 0% to 100%)" in headline(both)
    assert state_heads(both)[1:3] == ("near kept", "near kept, second judge")
    assert [[figure.count for figure in row.figures[:2]] for row in state_rows(both)][:2] == [
        ["8 of 8", "4 of 8"], ["7 of 8", "6 of 8"]]
    for text in (sequence_markdown(both), sequence_html(both)):
        assert "The second judge" in text
        assert text.count("5 of 8") == 3


def test_states_have_time_and_drift() -> None:
    result = sequence()
    assert state_heads(result) == ("after", "near kept", "integrity, near", "drift", "edit took")
    assert [row.figures[-1].value for row in state_rows(result)] == ["21 s", "22 s", "23 s"]
    assert state_rows(result)[2].figures[-2].value == "3.00%"


def test_withdrawals_and_warnings_are_told() -> None:
    told = notes(sequence(withdrawn=("dog",)))
    assert any("Withdrawn" in line and "dog" in line for line in told)


def test_the_page_is_one_file_with_the_matrix_and_nothing_foreign(tmp_path: Path) -> None:
    page = write_sequence_report(sequence(), tmp_path).read_text(encoding="utf-8")
    assert (tmp_path / "sequence.md").read_text(encoding="utf-8") == sequence_markdown(sequence())
    tags = Tags(page).names
    assert tags.count("tr") == 1 + 4 + 1 + 3
    assert not {"script", "link", "iframe", "img"} & set(tags)
    assert not re.search(r"https?://", page)
    assert page.count('class="own"') == len(CONCEPTS)


def test_what_comes_from_a_file_is_escaped() -> None:
    result = sequence()
    asked = [{**item, "who": HOSTILE, "evidence": HOSTILE} for item in result.settings["requests"]]
    page = sequence_html(result.model_copy(update={"settings": {"requests": asked}, "method": HOSTILE}))
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page


def test_a_sequence_that_was_not_measured_has_no_matrix() -> None:
    result = sequence(before=(), scores=(), states=tuple(
        state.model_copy(update={"scores": ()}) for state in sequence().states))
    assert "Nothing was measured" in sequence_html(result)
    assert all(cell.text == "" for row in matrix(result) for cell in row.cells)


def test_warnings_that_differ_in_the_concept_alone_are_one() -> None:
    few = lambda name, n: f"Only {n} images that ask for “{name}” could be judged."
    result = sequence()
    first, second, third = result.states
    states = (first.model_copy(update={"warnings": (few("church", 8), few("bomb", 8), few("cat", 7))}),
              second.model_copy(update={"warnings": (few("church", 8), "Something else.")}), third)
    warnings = [line for line in notes(result.model_copy(update={"states": states})) if line.startswith("Warning")]
    assert warnings == ["Warning: church, bomb: Only 8 images that ask for one of them could be judged.",
                      f"Warning: {few('cat', 7)}", "Warning: Something else."]
