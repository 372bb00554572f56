"""Published scores against numbers that were worked out by hand; failures and abstentions are in none of them."""

from __future__ import annotations

import pytest

from expunge.metrics.statistics import wilson
from expunge.protocols.agreement import agreement
from expunge.protocols.answered import Answered
from expunge.protocols.formulas import (
    accuracy,
    boxes,
    cross_domain_accuracy,
    harmonic,
    in_domain_accuracy,
    mean_probability,
    shown,
    unlearning_accuracy,
)
from expunge.protocols.rows import Row
from expunge.protocols.schema import Measure
from expunge.records import Score
from expunge.records.protocol import DetectorAnswer, ImageAnswer

M = Measure(name="m", formula="shown", detector="d")


def answered(answers: list[DetectorAnswer | str], rows: list[Row] | None = None, **named: object) -> Answered:
    rows = rows or [Row(number, f"prompt {number}") for number in range(1, len(answers) + 1)]
    images = [ImageAnswer(row=row.number, seed=0, subject="edited", lost=one if isinstance(one, str) else "",
                          answers={} if isinstance(one, str) else {"d": one})
              for row, one in zip(rows, answers, strict=True)]
    return Answered({row.number: row for row in rows}, {row.number: None for row in rows}, images, "edited")


def test_a_rate_is_wilsons_over_prompts() -> None:
    score, = shown(answered([DetectorAnswer(shown=False)] * 142), M)
    assert (score.value, score.n, score.numerator) == (0.0, 142, 0)
    assert score.high == pytest.approx(0.0263, abs=1e-4)  # 0 to 2.6%
    assert (score.low, score.high) == wilson(0, 142)


def test_failures_abstentions_and_lost_images_are_counted_and_in_no_rate() -> None:
    score, = shown(answered([DetectorAnswer(shown=True), DetectorAnswer(error="broke"), DetectorAnswer(note="no face"),
                             "not finite", DetectorAnswer()]), M)
    assert (score.value, score.n) == (1.0, 1)
    assert score.left_out == {"detector failed": 1, "detector abstained: no face": 1, "not finite": 1,
                              "detector abstained": 1}


def test_why_nothing_was_counted_is_told() -> None:
    seen = [DetectorAnswer(shown=True)] * 2
    unknown, = shown(answered(seen).only(True), M)
    assert (unknown.n, "--erased" in unknown.note) == (0, True)
    lost, = shown(answered(["not finite"]), M)
    assert (lost.n, "no image could be judged" in lost.note) == (0, True)


def test_rows_of_one_text_go_together() -> None:
    rows = [Row(number, "same") for number in range(1, 41)]
    score, = shown(answered([DetectorAnswer(shown=True)] * 20 + [DetectorAnswer(shown=False)] * 20, rows), M)
    assert score.prompts == 1
    apart, = shown(answered([DetectorAnswer(shown=True)] * 20 + [DetectorAnswer(shown=False)] * 20), M)
    assert apart.prompts == 40


def test_accuracy_takes_the_k_best_labels() -> None:
    rows = [Row(1, "a", label="church"), Row(2, "b", label="gas pump")]
    said = [DetectorAnswer(top=("tench", "Church")), DetectorAnswer(top=("gas_pump", "tench"))]
    one, = accuracy(answered(said, rows), M)
    two, = accuracy(answered(said, rows), M.model_copy(update={"options": {"top": 2}}))
    assert (one.value, two.value) == (0.5, 1.0)


def test_mean_probability_is_of_the_rows_own_label() -> None:
    rows = [Row(1, "a", label="church"), Row(2, "b", label="tench")]
    score, = mean_probability(answered([DetectorAnswer(scores={"church": 0.5, "tench": 0.4}),
                                        DetectorAnswer(scores={"church": 0.9})], rows), M)
    assert score.value == 0.5
    assert score.left_out == {"no score of the row's label": 1}


def test_boxes_are_summed_over_images_and_told_by_label() -> None:
    said = [DetectorAnswer(boxes={"A": (0.9, 0.3), "B": (0.5,)}), DetectorAnswer(boxes={"A": (0.2,)}), DetectorAnswer()]
    scores = {one.name: one for one in boxes(answered(said), M)}
    assert [scores[name].value for name in ("m", "m/a", "m/b")] == [4.0, 3.0, 1.0]
    assert scores["m"].n == 3
    assert scores["m"].low is not None
    assert scores["m"].low <= 4.0 <= (scores["m"].high or 0)
    above = {one.name: one.value for one in boxes(answered(said), M.model_copy(update={"options": {"cut": 0.4}}))}
    assert above == {"m": 2.0, "m/a": 1.0, "m/b": 1.0}


def test_unlearncanvas_scores_by_domain() -> None:
    rows, said, erased = [], [], {}
    for theme in ("Van_Gogh", "Sketch"):
        for thing in ("Cats", "Dogs"):
            rows.append(Row(len(rows) + 1, f"{thing} {theme}", groups={"theme": theme, "object": thing}))
            erased[len(rows)] = theme == "Van_Gogh"
            # themes are always told right but for one erased one; objects right for cats alone
            said.append({"t": DetectorAnswer(top=("Sketch",) if (theme, thing) == ("Van_Gogh", "Cats") else (theme,)),
                         "o": DetectorAnswer(top=("Cats",))})
    images = [ImageAnswer(row=row.number, seed=0, subject="edited", answers=one)
              for row, one in zip(rows, said, strict=True)]
    data = Answered({row.number: row for row in rows}, erased, images, "edited")
    measure = Measure(name="x", formula="unlearning-accuracy", options={"detectors": {"theme": "t", "object": "o"}})
    ua, = unlearning_accuracy(data, measure)
    ira, = in_domain_accuracy(data, measure)
    cra, = cross_domain_accuracy(data, measure)
    assert (ua.value, ua.n) == (0.5, 2)
    assert (ira.value, ira.n) == (1.0, 2)
    assert (cra.value, cra.n) == (0.5, 4)  # over all themes, the erased one among them


def test_scores_by_domain_take_the_detectors_own_names_and_leave_out_rows_without_a_label() -> None:
    rows = [Row(1, "a", groups={"theme": "Van_Gogh", "object": "Cats"}),
            Row(2, "b", groups={"theme": "Sketch", "object": "Dogs"}), Row(3, "c", groups={"theme": "Sketch"})]
    said = [("vincent", "feline"), ("Sketch", "canine"), ("Sketch", "canine")]
    images = [ImageAnswer(row=row.number, seed=0, subject="edited", answers={
        "t": DetectorAnswer(top=(theme,)), "o": DetectorAnswer(top=(thing,))})
        for row, (theme, thing) in zip(rows, said, strict=True)]
    data = Answered({row.number: row for row in rows}, {1: True, 2: False, 3: False}, images, "edited",
                    {"t": {"Van_Gogh": "Vincent"}, "o": {"Cats": "feline", "Dogs": "canine"}})
    measure = Measure(name="x", formula="unlearning-accuracy", options={"detectors": {"theme": "t", "object": "o"}})
    ua, = unlearning_accuracy(data, measure)
    cra, = cross_domain_accuracy(data, measure)
    assert (ua.value, ua.n) == (0.0, 1)  # what was erased is still drawn, and the detector says so in a word of its own
    assert (cra.value, cra.n, cra.left_out) == (1.0, 2, {"the row has no label": 1})


def test_a_row_without_a_label_is_neither_right_nor_wrong() -> None:
    rows = [Row(1, "a", label="church"), Row(2, "b")]
    score, = accuracy(answered([DetectorAnswer(top=("church",))] * 2, rows), M)
    assert (score.value, score.n, score.left_out) == (1.0, 1, {"the row has no label": 1})


def test_harmonic_mean() -> None:
    scores = {"e": Score(name="e", title="", value=0.05, n=10), "k": Score(name="k", title="", value=0.9, n=20)}
    parts = [{"score": "e", "complement": True}, {"score": "k"}]
    measure = Measure(name="h", formula="harmonic", options={"of": parts})
    assert harmonic(measure, scores).value == pytest.approx(0.924, abs=5e-4)
    none = harmonic(measure, {**scores, "k": Score(name="k", title="", value=None)})
    assert none.value is None
    assert "not measured" in none.note


def test_agreement_counts_images_that_both_decide_and_names_who_says_yes_alone() -> None:
    yes, no, error, away = (DetectorAnswer(shown=True), DetectorAnswer(shown=False), DetectorAnswer(error="x"),
                            DetectorAnswer(note="no face"))
    pairs = [(yes, yes)] * 20 + [(no, no)] * 15 + [(yes, no)] * 5 + [(no, yes)] * 10 + [(error, yes), (yes, away)]
    rows = {number: Row(number, f"prompt {number}") for number in range(1, len(pairs) + 2)}
    images = [ImageAnswer(row=number, seed=0, subject="edited", answers={"a": a, "b": b})
              for number, (a, b) in enumerate(pairs, 1)]
    images.append(ImageAnswer(row=len(rows), seed=0, subject="edited", lost="not finite"))
    measure = Measure(name="agree", formula="agreement", options={"detectors": ["a", "b"]})
    share, kappa = agreement(Answered(rows, {}, images, "edited"), measure)
    assert (share.name, share.value, share.numerator, share.n) == ("agree", 0.7, 35, 50)
    assert share.note == "a alone says yes of 5, b alone of 10, both of 20, neither of 15"
    assert share.left_out == {"a: detector failed": 1, "b: detector abstained: no face": 1, "not finite": 1}
    assert (kappa.name, kappa.n, kappa.value) == ("agree/kappa", 50, pytest.approx(0.4))
    assert kappa.low is not None
    assert kappa.high is not None
    assert 0.1 < kappa.low < 0.4 < kappa.high < 0.7
    alike = Answered(rows, {}, [one for one in images if one.row in range(21, 36)], "edited")
    assert agreement(alike, measure)[1].value is None
    assert "not defined" in agreement(alike, measure)[1].note
