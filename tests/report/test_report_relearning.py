"""The sentences say how fast, beside what, and no more; rows and plot hold every look."""

from __future__ import annotations

import pytest
from attack_examples import make_curve, make_relearning
from report_examples import HOSTILE, make_evaluation

from expunge.records import Relearning
from expunge.report.card import model_card
from expunge.report.html import report_html
from expunge.report.relearning import (
    relearning_chart,
    relearning_facts,
    relearning_heads,
    relearning_rows,
    relearning_sentence,
)


def test_a_hidden_concept_comes_back_faster_than_anything_new_is_learned() -> None:
    said = relearning_sentence(make_relearning(edited=(0, 15, 16, 16, 16), unknown=(0, 0, 0, 2, 12)))
    assert said.startswith(
        "The edited model draws “church” again after 10 steps of fine-tuning a LoRA on 8 images of the original "
        "model, in 15 of 16 images (95% interval 71.7% to 98.9%). The original model draws it before any training "
        "in 15 of 16 "
        "images (95% interval 71.7% to 98.9%).")
    assert "To learn a thing that no model ever knew (“blorp”) takes the edited model 80 steps." in said
    assert said.endswith("That is faster than “blorp” is learned: the concept was still there, unless it is that much "
                         "easier to learn.")


@pytest.mark.parametrize(("edited", "unknown", "says"), [
    ((0, 2, 9, 16, 16), (0, 2, 8, 15, 16), "Whether that is faster cannot be told"),
    ((0, 0, 0, 0, 3), (0, 0, 9, 15, 16), "does not draw “church” again in 50% of the images within 80 steps of "
                                         "fine-"),
    ((0, 0, 0, 0, 3), (0, 0, 9, 15, 16), "That is no faster"),
    ((0, 0, 0, 0, 3), (0, 0, 0, 0, 1), "Neither is learned within this training, so it says nothing of what was kept"),
    ((0, 8, 9, 9, 9), (0, 5, 6, 8, 9), "Whether that is faster cannot be told, for the intervals allow both"),
    ((9, 9, 9, 9, 9), (0, 0, 0, 8, 9), "draws “church” without any fine-tuning, in 9 of 16 images"),
    ((0, 0, 15, 16, 16), (0, 0, 0, 0, 1), "The edited model does not learn a thing that no model ever knew (“blorp”)"),
    ((0, 0, 15, 16, 16), (0, 0, 0, 0, 1), "the concept was still there"),
    ((0, 0, 15, 16, 16), None, "There is no curve of a thing that no model knew (nothing is known that it never saw)"),
])
def test_what_is_said_follows_the_curves(edited: tuple[int, ...], unknown: tuple[int, ...] | None, says: str) -> None:
    assert says in relearning_sentence(make_relearning(edited, unknown))


def test_without_a_new_thing_nothing_is_called_kept() -> None:
    assert "still there" not in relearning_sentence(make_relearning((0, 16, 16, 16, 16), None))


def test_the_unedited_model_has_no_curve_of_an_edit() -> None:
    made = make_relearning(patch_hash="", card=None, curves=(make_curve("unknown", "blorp", (0, 0, 9)),
                                                             make_curve("original", "church", (15, 16, 16))))
    said = relearning_sentence(made)
    assert "edited" not in said
    assert "takes the original model 20 steps (20 to never within the training by the 95% intervals)." in said


def test_steps_to_a_rate_are_those_of_the_first_look_that_has_it() -> None:
    curve = make_curve("edited", "church", (0, 6, 9, 4, 16))
    assert (curve.steps_to(0.5, "high"), curve.steps_to(0.5), curve.steps_to(0.5, "low")) == (10, 20, 80)
    assert make_curve("edited", "church", (0, 1)).steps_to(0.5) is None


def test_every_look_of_every_curve_has_a_cell() -> None:
    made = make_relearning()
    assert relearning_heads(made) == ["“church”, edited model", "“blorp” (new), edited model",
                                      "“church”, original model"]
    rows = relearning_rows(made)
    assert [row.steps for row in rows] == [0, 10, 20, 40, 80]
    assert rows[2].found == ("9 of 16, 33.2% to 76.9%", "0 of 16, 0% to 19.4%", "16 of 16, 80.6% to 100%")
    assert "right on 38 of 40 images" in relearning_facts(made)["“blorp” (new), edited model"]


def test_the_plot_has_a_line_per_curve_and_is_the_same_each_time() -> None:
    made = make_relearning()
    svg = relearning_chart(made)
    assert svg == relearning_chart(made)
    assert all(head in svg for head in relearning_heads(made))
    assert "steps of fine-tuning" in svg
    assert relearning_chart(make_relearning(curves=())) == ""


def test_page_and_card_take_them_in(tmp_path) -> None:
    evaluation = make_evaluation(relearning=make_relearning())
    page = report_html(evaluation, tmp_path)
    assert '<section id="relearning"' in page
    assert '<a href="#relearning">' in page
    assert "9 of 16, 33.2% to 76.9%" in page
    assert "How fast it is learned again" in model_card(evaluation)
    assert "relearning" not in report_html(make_evaluation(), tmp_path)


def test_hostile_words_stay_words(tmp_path) -> None:
    made = make_relearning(warnings=(HOSTILE,), curves=(make_curve("edited", HOSTILE, (0, 9)),))
    assert "<script" not in report_html(make_evaluation(relearning=made), tmp_path)


def test_the_record_is_read_back() -> None:
    made = make_relearning()
    assert Relearning.read(made.model_dump_json()) == made
