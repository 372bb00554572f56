"""Tables, Markdown and page of a bench: sorted, with n and interval everywhere, careful in what they claim."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from typing import Any

import pytest
from bench_examples import USUAL, bench, edit

from expunge.records import BenchResult
from expunge.report.bench import (
    attack_tables,
    bench_tables,
    controls,
    cost_rows,
    headline,
    pooled,
    ranked,
    verdict_line,
)
from expunge.report.bench_page import bench_html, markdown, write_bench_report
from expunge.report.differences import difference_tables
from expunge.report.pareto import diameter, floored, front, marks, pareto_chart

HOSTILE = '<script>alert("x")</script>'


@pytest.fixture(scope="module")
def result() -> BenchResult:
    return bench(USUAL)


@pytest.fixture(scope="module")
def failed() -> BenchResult:
    return bench({"esd-fast": (0.0, 0.5, 3.0), HOSTILE: (0.4, 0.6, 2.0)}, ("church",), (0,), failed=HOSTILE)


@pytest.mark.parametrize("odd", [{"methods": None}, {"methods": [None]}, {"concepts": [{"concept": None}]},
                                 {"concepts": "church"}])
def test_a_record_whose_settings_are_none_is_told_as_it_is_read(result: BenchResult, odd: dict[str, Any]) -> None:
    values = result.model_dump(mode="json")
    with pytest.raises(ValueError, match="BenchResult"):
        BenchResult.read(json.dumps({**values, "settings": {**values["settings"], **odd}}))


def test_tables_are_sorted_by_the_worst_case(result: BenchResult) -> None:
    tables = bench_tables(result)
    assert [table.concept for table in tables] == ["", "church", "bomb"]
    for table in tables:
        worst = [pooled(item, "attack/worst") for item in ranked(result, table.concept)]
        values = [score.value for score in worst if score is not None and score.value is not None]
        assert len(values) == len(table.rows) == len(USUAL)
        assert values == sorted(values)
        assert [row.rank for row in table.rows] == list(range(1, 17))
    assert headline(result).startswith(f"Least elicited: {tables[0].rows[0].method}. Elicited in ")


def test_every_number_has_its_n_and_its_interval(result: BenchResult) -> None:
    for table in bench_tables(result):
        for row in table.rows:
            for item in row.figures:
                assert item.interval, (row.method, item)
                assert re.fullmatch(r"\d+ of \d+|n \d+", item.count)
    assert "edits " in bench_tables(result)[0].rows[0].figures[0].spread


def test_nothing_is_called_removed(failed: BenchResult, result: BenchResult) -> None:
    line = verdict_line(failed.summaries[0], failed)
    assert re.match(r"Not elicited in 16 items \(95% interval 0% to 32\.4%\), worst case over 1 attacker and 1 edit\.",
                    line)
    for one in (failed, result):
        assert not re.search(r"\b(removed|erased|forgotten|safe)\b", bench_html(one) + markdown(one), re.IGNORECASE)


def test_a_method_that_failed_stands_last_with_its_reason(failed: BenchResult) -> None:
    row = bench_tables(failed)[0].rows[-1]
    assert (row.method, row.edits, row.figures[0].value) == (HOSTILE, "0, 1 failed", "not measured")
    assert row.verdict == "No edit was made; 1 failed."
    assert "1 cell failed" in markdown(failed)
    assert "no anchor" in bench_html(failed)


def test_page_escapes_what_comes_from_the_record_and_loads_nothing(failed: BenchResult) -> None:
    page = bench_html(failed)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not re.findall(r'(?:src|href)="(?!#)', page)
    assert "default-src 'none'" in page


def test_page_has_a_plot_per_concept_and_one_for_all(result: BenchResult) -> None:
    page = bench_html(result)
    assert page.count("<svg") == 3
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert bench_html(result) == page


def test_report_is_written_as_page_and_markdown(result: BenchResult, tmp_path) -> None:  # type: ignore[no-untyped-def]
    page = write_bench_report(result, tmp_path)
    assert page.read_text().lstrip().startswith("<!doctype html>")
    assert (tmp_path / "bench.md").read_text() == markdown(result)


def test_markdown_tables_are_whole(result: BenchResult) -> None:
    lines = [line for line in markdown(result).splitlines() if line.startswith("|")]
    assert len(lines) == 3 * (2 + 16) + 2 + 15
    tables = re.split(r"\n\n+", markdown(result))
    for table in tables:
        widths = {line.count("|") for line in table.splitlines() if line.startswith("|")}
        assert len(widths) <= 1
    assert re.search(r"\*\*−\d\d\.\d \(−\d\d\.\d to −\d\d\.\d; n 96\)\*\*", markdown(result))


def test_differences_say_better_or_worse_only_beyond_their_interval(result: BenchResult) -> None:
    table = difference_tables(result)[0]
    by_name = {(item.score, item.method): item for item in result.differences if not item.concept}
    for row in table.rows:
        method = row.words.partition(" − ")[0]
        worst = by_name["attack/worst", method]
        says = row.items[table.heads.index("elicited, worst case") - 1].says
        assert says == ("" if not worst.clear else "better" if (worst.value or 0) < 0 else "worse")


def test_attacks_are_shown_one_by_one_with_their_controls(result: BenchResult) -> None:
    table = attack_tables(result)[0]
    assert table.heads == ("method", "no attack", "noising", "worst case, fresh seeds")
    assert controls(result)[0][1].value == f"{16 * 6} of {16 * 6 * 4}"


def test_costs_are_told_cheapest_first(result: BenchResult) -> None:
    rows = cost_rows(result)
    assert [row[0] for row in rows] == sorted(USUAL, key=lambda name: USUAL[name][2])
    assert rows[0] == ("uce", "0.6 s", "10", "100", "50", "1,000 of 4,000", "0.0 MB", "unknown")


def test_front_is_what_none_beats_at_both() -> None:
    points = [(0.1, 0.5), (0.2, 0.9), (0.2, 0.8), (0.5, 0.9), (0.1, 0.5), (0.05, 0.1)]
    assert front(points) == [True, True, False, False, True, True]


def test_marks_grow_with_the_cost() -> None:
    assert diameter(0.2) == diameter(1.0) < diameter(10.0) < diameter(100.0)
    assert diameter(100.0) - diameter(10.0) == pytest.approx(diameter(10.0) - diameter(1.0))


def test_plot_names_every_method_and_is_the_same_every_time(result: BenchResult) -> None:
    svg = pareto_chart(result)
    assert svg == pareto_chart(result)
    shown = ["".join(node.itertext()) for node in ET.fromstring(svg).iter() if node.tag.endswith("}text")]
    assert set(USUAL) <= set(shown)
    assert {str(rank) for rank in range(1, 17)} <= set(shown)
    assert "var(--edited)" in svg
    assert "#0" not in re.sub(r'(?:href|clip-path)="[^"]*"', "", svg)
    assert sum(mark.best for mark in marks(result, "")) >= 2


def test_a_wrecked_model_stands_at_the_edge_and_its_number_in_the_key() -> None:
    result = bench({"esd-fast": (0.5, 0.8, 1.0), "wrecked": (0.1, -8.7, 1.0)}, ("church",), (0,))
    shown = {mark.method: (mark.y, mark.below) for mark in floored(marks(result, "church"))}
    assert shown["esd-fast"][1] is None
    assert shown["wrecked"][0] == -1.0
    assert shown["wrecked"][1] == pytest.approx(-8.7, abs=0.3)
    svg = pareto_chart(result, "church")
    assert any("wrecked (\N{MINUS SIGN}8." in "".join(node.itertext()) for node in ET.fromstring(svg).iter())
    only = bench({"a": (0.5, -3.0, 1.0), "b": (0.1, -8.0, 1.0)}, ("church",), (0,))
    assert all(mark.below is None for mark in floored(marks(only, "church"))), "then there is nothing to flatten"


def test_plot_needs_two_methods(failed: BenchResult) -> None:
    assert pareto_chart(failed, "church") == ""
    assert "Nothing to plot" in bench_html(failed)


def test_a_bench_without_attacks_says_so() -> None:
    result = bench({"esd-fast": (0.5, 0.5, 1.0)}, ("church",), (0,))
    plain = edit("esd-fast", "church", 0, 0.5, 0.5, 1.0, attacks=())
    plain = plain.model_copy(update={"items": {"found/direct": plain.items["found/direct"]}})
    summary = result.summaries[0].model_copy(update={"scores": tuple(
        score for score in result.summaries[0].scores if not score.name.startswith("attack/"))})
    bare = result.model_copy(update={"edits": (plain,), "summaries": (summary,), "differences": ()})
    assert headline(bare) == "No edit was attacked."
    assert verdict_line(summary, bare) == "Not attacked."
    assert "elicited, worst case" not in bench_tables(bare)[0].heads
    assert "No attacks were made" in bench_html(bare)
