"""What a sequence comes to, from values that were written by hand."""

from __future__ import annotations

import math
from statistics import NormalDist

import pytest
import torch
from colour_world import edit
from report_examples import make_evaluation

from expunge.errors import UserError
from expunge.metrics.statistics import student, wilson
from expunge.records import Sampler, Score, StateScores
from expunge.records.sequence import surely_drawn
from expunge.sequence.gather import _over_all, check_alike, drift, revival


def state(number: int, concept: str, found: dict[str, list[int]]) -> StateScores:
    items = {f"found/{name}": {f"a {name} | {seed}": float(value) for seed, value in enumerate(values)}
             for name, values in found.items()}
    scores = tuple(Score(name=name, title=name, value=sum(values.values()) / len(values), n=len(values),
                         numerator=round(sum(values.values()))) for name, values in items.items())
    return StateScores(number=number, concept=concept, items=items, scores=scores)


STATES = [
    state(1, "church", {"church": [0, 0, 0, 1], "bomb": [1, 1, 1, 1], "cat": [1, 1, 1, 1]}),
    state(2, "bomb", {"church": [1, 1, 1, 1], "bomb": [0, 0, 0, 0], "cat": [1, 1, 1, 1]}),
    state(4, "cat", {"church": [0, 1, 0, 1], "bomb": [0, 0, 0, 1], "cat": [0, 0, 0, 0]}),
]
NAMES = {"church": ("church",), "bomb": ("bomb",), "cat": ("cat",)}


def test_what_comes_back_is_counted_picture_by_picture() -> None:
    scores = {score.name: score for score in _over_all(STATES, NAMES)}
    assert (scores["gone/own"].numerator, scores["gone/own"].n) == (1, 12)
    assert (scores["gone/end"].numerator, scores["gone/end"].n) == (3, 12)
    assert scores["revival"].value == pytest.approx(0.25)  # church and bomb, each one of four more
    assert (scores["revival"].n, scores["revival"].low) == (8, None)
    assert scores["revival"].note == "only 2 concepts: no interval"
    assert scores["revival/most"].value == pytest.approx(0.75)  # church, after bomb
    assert scores["revival/most"].note.startswith("church after bomb")
    assert scores["revival/most"].low is None


def test_an_image_more_without_an_answer_is_no_rise() -> None:
    before, after = state(1, "church", {"church": [1, 0, 0, 0]}), state(2, "cat", {"church": [1, 0, 0], "cat": [0]})
    scores = {score.name: score for score in _over_all([before, after], {"church": ("church",), "cat": ("cat",)})}
    assert (scores["revival/most"].value, scores["revival/most"].note) == (0.0, "nothing rose")


def test_the_second_judge_is_counted_apart_from_the_first() -> None:
    blind = {"church": [0, 0, 0, 0], "bomb": [1, 1, 1, 1], "cat": [0, 0, 1, 1]}
    both = []
    for one in STATES:
        other = state(one.number, one.concept, blind)
        both.append(one.model_copy(update={
            "items": {**one.items, **{f"second/{name}": values for name, values in other.items.items()}},
            "scores": (*one.scores, *(score.model_copy(update={"name": f"second/{score.name}"})
                                      for score in other.scores))}))
    scores = {score.name: score for score in (*_over_all(both, NAMES), *_over_all(both, NAMES, ["bomb"], "second/"))}
    assert [scores[name] for name in ("gone/own", "gone/end", "revival")] == _over_all(STATES, NAMES)[:3]
    assert (scores["second/gone/end"].numerator, scores["second/gone/end"].n) == (2, 8)
    assert scores["second/gone/end"].left_out == {"the original may not draw it": 4}
    assert scores["second/gone/own"].title.endswith("second judge")
    assert scores["second/revival"].value == 0.0
    assert not _over_all(STATES, NAMES, (), "second/"), "nothing is said of a judge who was not asked"


def test_the_last_concept_cannot_come_back() -> None:
    names = [score.name for score in _over_all(STATES[:1], {"church": ("church",)})]
    assert names == ["gone/own", "gone/end"]


def test_the_interval_of_revival_is_over_concepts() -> None:
    score = revival({"a": [1.0] * 10, "b": [0.0] * 10, "c": [0.0] * 10, "d": [0.0] * 10})
    assert score.value == 0.25
    wider = math.sqrt(4 / 3) * student(3) / NormalDist().inv_cdf(0.975)  # 40 images, but four concepts
    assert (score.low, score.high) == (pytest.approx(0.25 - 0.25 * wider), min(1.0, 0.25 + 0.5 * wider))
    assert "every concept alike" in revival({name: [0.0, 0.0] for name in "abcd"}).note


def test_a_state_that_was_not_measured_is_left_out_of_all_scores_alike() -> None:
    blind = STATES[1].model_copy(update={"items": {}, "scores": ()})
    scores = {score.name: score for score in _over_all([STATES[0], blind, STATES[2]], NAMES)}
    assert (scores["gone/own"].n, scores["gone/end"].n) == (8, 8)
    assert "1 of 3 states were not measured" in scores["gone/end"].note
    unfinished = {score.name: score for score in _over_all(
        [*STATES[:2], STATES[2].model_copy(update={"items": {}})], NAMES)}
    assert unfinished["revival"].value == pytest.approx(0.75)  # up to the last that was measured


def test_nothing_rose() -> None:
    calm = [STATES[0], STATES[1].model_copy(update={"items": STATES[0].items | {"found/bomb": {"a": 0.0}},
                                                    "scores": STATES[0].scores})]
    most = {score.name: score for score in _over_all(calm, NAMES)}["revival/most"]
    assert (most.value, most.note) == (0.0, "nothing rose")


def test_drift_is_the_distance_in_parts_of_the_norm(model: object) -> None:
    patch = edit(model, 0.01)
    mine = model.editable()  # type: ignore[attr-defined]
    moved = torch.cat([(value - mine[name]).flatten() for name, value in patch.tensors.items()]).double().norm()
    whole = torch.cat([p.flatten() for p in mine.values()]).double().norm()
    assert math.isclose(drift(patch, model), float(moved / whole), rel_tol=1e-6)  # type: ignore[arg-type]


@pytest.mark.parametrize(("changed", "says"), [
    ({"sampler": Sampler(steps=7)}, "steps: 20, then 7"), ({"detectors": {"judge: emoji-judge": "other"}}, "judge"),
    ({"prompts_hash": "b"}, "prompts: a, then b"), ({"drawn": {"number type": "float16"}}, "number type")])
def test_states_that_were_measured_otherwise_are_not_joined(changed: dict[str, object], says: str) -> None:
    told = {"prompts_hash": "a", "drawn": {"number type": "float32"}, "detectors": {"judge: emoji-judge": "1a2b"}}
    first = make_evaluation(**told)
    check_alike({"1 (church)": first, "2 (bomb)": make_evaluation(**told)})
    check_alike({"1 (church)": first, "2 (bomb)": make_evaluation(**{**told, "prompts_hash": "", "drawn": {}})})
    with pytest.raises(UserError, match=r"states 1 .church. and 2 .bomb. were measured otherwise") as error:
        check_alike({"1 (church)": first, "2 (bomb)": make_evaluation(**{**told, **changed})})
    assert says in error.value.got


def test_what_the_original_may_not_draw_counts_in_no_score_over_the_sequence() -> None:
    scores = {score.name: score for score in _over_all(STATES, NAMES, {"church"})}
    assert (scores["gone/own"].numerator, scores["gone/own"].n) == (0, 8)
    assert (scores["gone/end"].numerator, scores["gone/end"].n) == (1, 8)
    assert scores["gone/end"].left_out == {"the original may not draw it": 4}
    assert scores["revival"].value == pytest.approx(0.25)  # bomb alone
    assert scores["revival/most"].note.startswith("bomb after cat")
    nothing = {score.name: score for score in _over_all(STATES, NAMES, set(NAMES))}
    assert set(nothing) == {"gone/own", "gone/end"}
    assert nothing["gone/end"].value is None
    assert nothing["gone/end"].note == "nothing is counted: the original may not draw it"


def test_states_without_an_item_have_no_score() -> None:
    assert _over_all([state.model_copy(update={"items": {}}) for state in STATES], NAMES) == []


@pytest.mark.parametrize(("hits", "n", "sure"), [(0, 45, False), (3, 3, False), (4, 4, True), (7, 11, False),
                                                 (9, 11, True), (30, 45, True), (25, 45, False), (0, 0, False)])
def test_a_concept_is_surely_drawn_where_the_interval_lies_above_one_half(hits: int, n: int, sure: bool) -> None:
    low, high = wilson(hits, n)
    assert surely_drawn(Score(name="o", title="o", value=hits / n if n else None, low=low, high=high, n=n)) is sure
    assert not surely_drawn(None)


def test_seeds_of_one_prompt_go_together() -> None:
    items = {f"{text} | {seed}": float(text == "a | b") for text in ("a | b", "c") for seed in range(6)}
    score = {one.name: one for one in _over_all([STATES[0].model_copy(update={"items": {"found/church": items}})],
                                                {"church": ("church",)})}["gone/own"]
    assert (score.numerator, score.n, score.prompts) == (6, 12, 2)
    assert (score.low, score.high) == wilson(1, 2)
