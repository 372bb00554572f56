"""Plots are well-formed SVG, the same every time, coloured by the page, and hold what was measured."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET

import pytest
from attack_examples import attack_run, items, make_suite
from report_examples import make_card, make_evaluation, number, rate

from expunge.errors import UserError
from expunge.report import charts

DRAWN = {"found": charts.found_chart, "retained": charts.retained_chart, "integrity": charts.integrity_chart}


def texts(svg: str) -> list[str]:
    return ["".join(node.itertext()).strip("\N{ZERO WIDTH SPACE}") for node in ET.fromstring(svg).iter()
            if node.tag.endswith("}text")]


@pytest.mark.parametrize("name", DRAWN)
def test_chart_is_the_same_every_time_and_depends_on_nothing_outside(name, evaluation):
    svg = DRAWN[name](evaluation)
    assert svg == DRAWN[name](evaluation)
    assert svg.startswith("<svg")
    for outside in ("<?xml", "<!DOCTYPE", "<metadata", "<style", "<image"):
        assert outside not in svg
    assert "currentColor" in svg
    assert "var(--edited)" in svg
    assert not any(stand_in in svg for stand_in in (charts.INK, charts.FAINT, charts.EDITED, charts.ORIGINAL))


def test_ids_do_not_clash_on_one_page(evaluation):
    drawn = [*(draw(evaluation) for draw in DRAWN.values()), charts.loss_chart(evaluation.card)]
    ids = [node.get("id") for svg in drawn for node in ET.fromstring(svg).iter() if node.get("id")]
    assert len(ids) == len(set(ids))
    for svg in drawn:
        used = {value[1:] for node in ET.fromstring(svg).iter() for key, value in node.attrib.items()
                if key.endswith("href")}
        assert used <= {node.get("id") for node in ET.fromstring(svg).iter()}


def test_found_chart_labels_every_measured_rate(evaluation):
    shown = texts(charts.found_chart(evaluation))
    assert {"direct", "held-out", "paraphrase", "implicit", "all of these", "never seen"} <= set(shown)
    assert {"94.5%", "2.4%", "3.1%"} <= set(shown)


def test_a_rate_without_value_is_named_not_hidden():
    scores = [rate("retained/near", 40, 48), number("retained/far", None, "none asked")]
    assert "not measured" in texts(charts.retained_chart(make_evaluation(scores)))


def test_integrity_chart_reaches_below_zero():
    shown = texts(charts.integrity_chart(make_evaluation([number("integrity/far", -0.6)])))
    assert "−0.60" in shown
    assert shown.count("not measured") == 3


def test_loss_chart_takes_any_name_and_skips_what_is_no_number(hostile):
    shown = texts(charts.loss_chart(hostile.card))
    assert {"_hidden", "$\\frac{"} <= set(shown)
    assert not any("mathdefault" in text for text in shown)


def test_training_steps_are_whole_numbers():
    shown = texts(charts.loss_chart(make_card(losses={"erase": [0.3, 0.5, 0.4]}, steps=3)))
    assert {"1", "2", "3"} <= set(shown)
    assert not {"1.5", "1.50"} & set(shown)


def test_nothing_to_draw_is_an_empty_text(bare):
    assert [draw(bare) for draw in DRAWN.values()] == ["", "", ""]
    assert charts.loss_chart(make_card(losses={"erase": [1.0]})) == ""


def test_no_figure_is_left_with_pyplot(evaluation):
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    charts.found_chart(evaluation)
    assert pyplot.get_fignums() == before


def test_missing_matplotlib_says_what_to_install(evaluation, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UserError, match=r"pip install 'expunge\[report\]'"):
        charts.found_chart(evaluation)


def test_budget_chart_has_a_step_for_every_find_and_a_row_per_attack():
    svg = charts.budget_chart(make_suite())
    assert svg == charts.budget_chart(make_suite())
    shown = texts(svg)
    assert {"paraphrase", "unlearndiff", "1 of 23", "3 of 19", "100", "1,000"} <= set(shown)
    more = charts.budget_chart(make_suite(hits=(0, 1, 2, 0, 8)))
    assert "8 of 19" in texts(more)
    assert len(more) > len(svg)  # five steps more
    assert charts.budget_chart(make_suite(runs=())) == ""
    close = make_suite(runs=(attack_run("a", "image", items(8), 2, 90),))
    assert {"50", "20"} & set(texts(charts.budget_chart(close)))


def test_ways_of_asking_have_rows_of_their_own() -> None:
    from report_examples import make_evaluation, rate, usual_scores

    scores = [*usual_scores(), rate("found@short", 5, 24), rate("original/found@short", 23, 24),
              rate("retained/near@short", 9, 24), rate("original/retained/near@short", 24, 24)]
    evaluation = make_evaluation(scores, strata={"short": "the shortest sentences", "slip": "a slip of the keyboard"})
    for chart, value in ((charts.found_chart, "20.8%"), (charts.retained_chart, "37.5%")):
        drawn = chart(evaluation)
        assert "· short" in drawn
        assert value in drawn
        assert "· slip" not in drawn  # it was not asked
