"""What is said of a bench, over every state of its pooled scores and differences: no sentence says more than they "
  "do."""

from __future__ import annotations

import math
import re
from itertools import product

import pytest
from bench_examples import bench

from expunge.metrics.statistics import wilson
from expunge.records import BenchResult, Difference, Edit, EditCost, Pooled, Summary
from expunge.report.bench import bench_tables, cost_rows, figure, headline, notes, verdict_line, widest
from expunge.report.bench_page import bench_html, markdown
from expunge.report.differences import difference_text
from expunge.report.pareto import marks, pareto_chart

FORBIDDEN = re.compile(r"\b(removed|erased|forgotten|safe|gone|nan|None)\b")


def pooled(name: str, hits: int | None, n: int = 24, cluster: tuple[float | None, float | None] = (None, None)
           ) -> Pooled:
    low, high = wilson(hits, n) if hits is not None else (None, None)
    return Pooled(name=name, title=name, value=hits / n if hits is not None and n else None, low=low, high=high, n=n,
                  numerator=hits, of="items", cluster_low=cluster[0], cluster_high=cluster[1], edits=3)


def row(method: str, worst: int | None, before: int | None = 0, kept: int | None = 20, n: int = 24, **more: object
        ) -> Summary:
    scores = [pooled("attack/worst", worst, n) if worst is not None else None,
              pooled("attack/before", before, n) if before is not None else None,
              pooled("retained/near", kept) if kept is not None else None]
    values = {"method": method, "preset": "esd-fast", "concept": "church", "edits": 3,
              "scores": tuple(score for score in scores if score is not None)}
    return Summary.model_validate({**values, **more})


def result(rows: list[Summary], differences: tuple[Difference, ...] = ()) -> BenchResult:
    edits = [Edit(method=item.method, preset="esd-fast", concept="church", seed=seed, attacks=("noising",))
             for item in rows for seed in range(item.edits)]
    return BenchResult(model="m", model_hash="h", methods=tuple(item.method for item in rows), concepts=("church",),
                       edits=tuple(edits), summaries=tuple(rows), differences=differences)


def gap(value: float | None, low: float | None, high: float | None, prompts: int = 8, **more: object) -> Difference:
    return Difference.model_validate({"score": "attack/worst", "title": "elicited", "method": "a", "other": "b",
                                      "concept": "church", "value": value, "low": low, "high": high, "n": 24,
                                      "prompts": prompts, "higher_is_better": False, **more})


COUNTS = (None, 0, 1, 12, 23, 24)


@pytest.mark.parametrize(("one", "two", "before"), [*product(COUNTS, COUNTS, (None, 0, 1, 24))])
def test_the_headline_calls_a_method_least_elicited_only_where_it_is_told_apart(
        one: int | None, two: int | None, before: int | None) -> None:
    made = result([row("a", one, before if before is None else min(before, one or 0)), row("b", two)])
    said = headline(made)
    assert not FORBIDDEN.search(said), said
    if one is None and two is None:
        assert said == "No edit was attacked."
        return
    if one is None or two is None:
        assert said.startswith(("a: ", "b: "))
        return
    low, high = sorted((one, two))
    apart = wilson(low, 24)[1] < wilson(high, 24)[0]
    assert said.startswith("Least elicited: ") == apart, said
    assert "95% interval" in said
    assert re.search(r"\d+ items|of 24", said)
    assert "Near things are drawn as asked in" in said


@pytest.mark.parametrize(("difference", "apart"), [
    (gap(-0.2, -0.3, -0.1), True), (gap(-0.2, -0.4, 0.0), False), (gap(-0.2, -0.3, -0.1, prompts=5), False),
    (gap(0.0, 0.0, 0.0), False), (gap(None, None, None), False), (gap(-0.2, None, None), False),
    (gap(-0.2, -0.3, math.nan), False), (gap(0.2, 0.1, 0.3, method="b", other="a"), True)])
def test_the_paired_difference_decides_where_the_bench_has_it(difference: Difference, apart: bool) -> None:
    said = headline(result([row("a", 10), row("b", 15)], (difference,)))
    assert said.startswith("Least elicited: a.") == apart
    far = headline(result([row("a", 0), row("b", 24)], (difference,)))
    assert far.startswith("Least elicited: a.") == apart, "the paired difference weighs more than the two intervals"


def test_three_rows_of_which_one_is_told_apart() -> None:
    said = headline(result([row("a", 1), row("b", 2), row("c", 24)]))
    assert said.startswith("Least elicited: a. Elicited in 1 of 24 items (4.2%, 95% interval 0.7% to 20.2%), worst "
                           "case "
                           "over 1 attacker and 3 edits. Not told apart from it: b. Near things are drawn as asked in "
                           "83.3% (95% 64.1% to 93.3%, 20 of 24).")
    ruined = headline(result([row("a", 0, kept=0), row("b", 24)]))
    assert "Near things are drawn as asked in 0% (95% 0% to 13.8%, 0 of 24)." in ruined
    assert "What it keeps was not measured." in headline(result([row("a", 0, kept=None), row("b", 24)]))


@pytest.mark.parametrize(("item", "says"), [
    (row("a", 0), "Not elicited in 24 items (95% interval 0% to 13.8%), worst case over 1 attacker and 3 edits."),
    (row("a", 5, 2), "Elicited in 5 of 24 items (20.8%, 95% interval 9.2% to 40.5%), worst case over 1 attacker and 3 "
                     "edits; 2 of them already without an attack."),
    (row("a", 24, 24), "Shown without any attack in 24 of 24 items (100%, 95% interval 86.2% to 100%), and elicited "
                       "in no "
                       "other, worst case over 1 attacker and 3 edits."),
    (row("a", None), "Not attacked."), (row("a", 5, edits=0), "No edit was made."),
    (row("a", 5, edits=0, failed=2), "No edit was made; 2 failed."),
    (row("a", 0, failed=1, missing=2), "Not elicited in 24 items (95% interval 0% to 13.8%), worst case over 1 "
                                       "attacker "
                                       "and 3 edits; of its edits 1 failed, 2 not made yet."),
    (row("a", 1, n=1), "Elicited in 1 of 1 item (100%, 95% interval 20.7% to 100%), worst case over 1 attacker and 3 "
                       "edits."),
])
def test_verdicts_word_by_word(item: Summary, says: str) -> None:
    assert verdict_line(item, result([item])) == says


def test_an_empty_record_says_that_nothing_was_measured() -> None:
    empty = BenchResult(model="m", model_hash="h")
    assert headline(empty) == "No edit was made: nothing was measured."
    assert notes(empty) == []
    assert cost_rows(empty) == []
    assert "Nothing to plot" in bench_html(empty)
    assert markdown(empty).startswith("No edit was made")


@pytest.mark.parametrize(("cluster", "low", "high"), [
    ((None, None), 0.0, 0.138), ((0.0, 0.0), 0.0, 0.138), ((0.0, 0.4), 0.0, 0.4), ((math.nan, math.nan), 0.0, 0.138)])
def test_intervals_are_the_wider_of_the_two_at_each_end(cluster: tuple, low: float, high: float) -> None:
    score = widest(pooled("attack/worst", 0, 24, cluster))
    assert (score.low, score.high) == (pytest.approx(low), pytest.approx(high, abs=1e-3))
    assert figure(pooled("attack/worst", None)).value == "not measured"


@pytest.mark.parametrize(("value", "low", "high", "prompts", "better"), [
    *product((-0.2, 0.0, 0.2, None, math.nan), (None, math.nan, -0.3, 0.0, 0.1), (None, math.nan, -0.1, 0.0, 0.1, 0.3),
             (5, 6), (True, False, None))])
def test_better_and_worse_are_said_only_beyond_zero(value: float | None, low: float | None, high: float | None,
                                                    prompts: int, better: bool | None) -> None:
    told = difference_text(gap(value, low, high, prompts, higher_is_better=better))
    ends = [end for end in (low, high) if end is not None and math.isfinite(end)]
    clear = len(ends) == 2 and prompts >= 6 and ends[0] != ends[1] and (ends[0] > 0 or ends[1] < 0)
    if value is None or math.isnan(value):
        assert (told.text, told.says) == ("not measured", "")
        return
    assert bool(told.says) == (clear and better is not None)
    assert "n 24" in told.text
    assert "nan" not in told.text
    if told.says:
        assert told.says == ("better" if (value > 0) == better else "worse")


def test_notes_say_only_what_was_made() -> None:
    one = bench({"esd-fast": (0.5, 0.5, 1.0), "uce": (0.4, 0.6, 1.0)}, ("church",), (0,))
    assert any(line.startswith("One edit per method and concept") for line in notes(one))
    three = notes(bench({"esd-fast": (0.5, 0.5, 1.0)}, ("church",)))
    assert any("Edits per method and concept: 3." in line for line in three)
    assert not any("Differences" in line for line in three), "there are none"
    failed = notes(bench({"esd-fast": (0.5, 0.5, 1.0), "uce": (0.4, 0.6, 1.0)}, ("church",), failed="uce"))
    assert any("Edits per method and concept: 0 to 3." in line for line in failed)
    assert not any(line.startswith("Elicited") for line in notes(result([row("a", None, edits=0)])))


def test_wall_time_says_so_and_time_that_is_not_known_is_not_short() -> None:
    cost = EditCost(seconds=30.0, changed=1, of=10000)
    timed = result([row("a", 0, cost=cost), row("b", 0, cost=cost.model_copy(update={"processor": 20.0}))])
    assert [item.cost for item in bench_tables(timed)[0].rows] == ["30 s by the clock", "20 s"]
    assert bench_tables(timed)[0].rows[0].size.startswith("1 numbers changed (<0.1% of the model)")
    near = [pooled("integrity/near", 12)]
    rows = [item.model_copy(update={"scores": (*item.scores, *near)}) for item in (
        row("a", 3, cost=None), row("b", 5, cost=EditCost(seconds=30.0)))]
    plotted = result(rows)
    assert {mark.method: mark.timed for mark in marks(plotted, "church")} == {"a": False, "b": True}
    assert "(time unknown)" in pareto_chart(plotted, "church")
