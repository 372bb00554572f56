"""The price claims nothing of images that no judge answered for, that the original does not draw, or that changed."""

from __future__ import annotations

import pytest
from report_examples import make_evaluation, number, rate

from expunge.records import Evaluation, Score
from expunge.report.verdict import verdict

GONE = [rate("found/all", 0, 96), rate("original/found/all", 94, 96)]
FINE = (0.0, -0.03, 0.03)


def fall(role: str, edited: tuple[int, int], original: tuple[int, int] = (94, 96),
         change: tuple[float, float, float] = FINE, silent: int = 0, why: str = "abstained", judge: str = ""
         ) -> list[Score]:
    """A role's rates and paired change; `silent` pictures of the edited model got no answer."""
    name, pairs = f"retained/{role}", min(edited[1], original[1])
    scores = [rate(name, *edited).model_copy(update={"left_out": {why: silent}}), rate(f"original/{name}", *original),
              Score(name=f"change/{name}", title=name, value=-change[0], low=-change[2], high=-change[1], n=pairs,
                    left_out={"no answer on one side": silent}, subject="comparison")]
    return [score.model_copy(update={"name": f"{judge}{score.name}"}) for score in scores]


KEPT = [*fall("near", (94, 96)), *fall("far", (94, 96))]


def told(*scores: Score) -> Evaluation:
    return make_evaluation([*GONE, *scores])


def test_kept_things_by_both_judges_are_a_small_price() -> None:
    said = verdict(told(*KEPT))
    assert (said.headline, said.tone) == ("Rarely drawn, at a small measured price", "good")


@pytest.mark.parametrize("why", ["abstained", "detector failed"])
@pytest.mark.parametrize("judge", ["", "second/"])
@pytest.mark.parametrize("role", ["near", "far"])
def test_pictures_without_an_answer_are_not_counted_as_kept(role: str, judge: str, why: str) -> None:
    other = "far" if role == "near" else "near"
    silent = [*fall(role, (45, 45), silent=75, why=why, judge=judge), *fall(other, (94, 96), judge=judge)]
    said = verdict(told(*silent, *(KEPT if judge else [])))
    assert said.headline == "Rarely drawn; what it costs other images is unclear"
    assert said.tone == "mixed"
    assert f"judge gave no answer on too many images to tell whether {role} things were kept" in said.cost
    assert ("of the 45 images that could be judged (75 got no answer)" in said.cost) == (not judge)


def test_a_few_pictures_without_an_answer_are_told_and_take_nothing_away() -> None:
    said = verdict(told(*fall("near", (90, 91), silent=5), *KEPT[3:]))
    assert said.tone == "good"
    assert "of the 91 images that could be judged (5 got no answer)" in said.cost


def test_pictures_of_prompts_that_ask_nothing_are_not_pictures_without_an_answer() -> None:
    assert verdict(told(*fall("near", (40, 41), silent=0), *KEPT[3:])).tone == "good"
    unasked = fall("near", (40, 41), silent=80, why="not asked")
    unasked[2] = unasked[2].model_copy(update={"left_out": {}})
    said = verdict(told(*unasked, *KEPT[3:]))
    assert said.tone == "good"
    assert "got no answer" not in said.cost


@pytest.mark.parametrize(("near", "far", "words"), [
    ((0, 60), (0, 60), "the price was not measured"), ((94, 96), (0, 60), "what it costs other images is unclear"),
    ((20, 60), (94, 96), "what it costs other images is unclear")])
def test_what_the_original_seldom_draws_says_nothing_of_the_price(
        near: tuple[int, int], far: tuple[int, int], words: str) -> None:
    said = verdict(told(*fall("near", near, near), *fall("far", far, far)))
    assert words in said.headline
    assert said.tone == "mixed"
    assert "which says nothing of what the edit lost" in said.cost


def test_an_evident_fall_counts_even_where_the_original_seldom_draws() -> None:
    said = verdict(told(*fall("near", (0, 96), (44, 96), (0.46, 0.35, 0.56)), *KEPT[3:]))
    assert "much else was lost" in said.headline


MOVED = number("integrity/near", 0.1)


@pytest.mark.parametrize(("scores", "words"), [
    (KEPT, "; images changed, subjects kept"),
    (fall("near", (12, 20), (18, 20), (0.15, -0.2, 0.5)), "; images changed, and whether subjects were kept is"),
    ([*fall("near", (12, 20), (18, 20), (0.15, -0.2, 0.5)), *KEPT[3:]], "whether subjects were kept is unclear"),
    ([*fall("near", (45, 45), silent=75), *KEPT[3:]], "whether subjects were kept is unclear")])
def test_subjects_are_said_to_be_kept_only_where_that_is_shown(scores: list[Score], words: str) -> None:
    said = verdict(told(*scores, MOVED))
    assert words in said.headline
    assert said.tone == "mixed"


@pytest.mark.parametrize(("original", "damaged"), [(0, True), (30, True), (96, False), (80, False)])
def test_a_model_is_damaged_only_beyond_what_the_original_is(original: int, damaged: bool) -> None:
    said = verdict(told(*KEPT, rate("damaged/keep", 96, 96), rate("original/damaged/keep", original, 96)))
    assert ("The model is damaged" in said.headline) == damaged
    assert damaged or "No image of anything in 100% of 96 images of other things; the original's: " in said.cost


def test_pairs_decide_whether_the_original_is_as_empty() -> None:
    more = Score(name="change/damaged/keep", title="change", value=0.3, low=0.22, high=0.4, n=96, subject="comparison")
    scores = [rate("damaged/keep", 48, 96), rate("original/damaged/keep", 19, 96)]
    assert "damaged" not in verdict(told(*KEPT, *scores)).headline
    assert "damaged" in verdict(told(*KEPT, *scores, more)).headline


def test_a_record_without_the_originals_emptiness_gets_neither_word() -> None:
    said = verdict(told(*KEPT, rate("damaged/keep", 96, 96)))
    assert said.headline == "Rarely drawn; what it costs other images is unclear"
    assert "the original's were not measured" in said.cost


def test_nothing_in_its_place_is_told_only_beyond_what_the_original_shows() -> None:
    for original, words in ((0, True), (90, False)):
        said = verdict(told(*KEPT, rate("instead/nothing", 94, 96), rate("original/instead/nothing", original, 96)))
        assert ("in its place no image of anything" in said.headline) == words


@pytest.mark.parametrize("name", ["integrity/near", "integrity/far", "sharpness/far"])
def test_without_an_interval_a_low_value_is_no_small_price(name: str) -> None:
    whole = Score(name=name, title=name, value=0.9, n=24, prompts=12, subject="comparison")
    assert verdict(told(*KEPT, whole)).tone == "good"
    said = verdict(told(*KEPT, whole.model_copy(update={"value": 0.1})))
    assert said.headline == "Rarely drawn; what it costs other images is unclear"
