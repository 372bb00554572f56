"""Ways of asking, several concepts and judges: what one hides the others' numbers do not make good."""

from __future__ import annotations

import pytest
from report_examples import make_card, make_evaluation, rate

from expunge.records import Evaluation, Request, Score, Target
from expunge.report.verdict import verdict
from expunge.report.ways import NO_ANSWER, NOT_DRAWN, ways

WORDS = {"name": "the name alone", "short": "the shortest sentences"}
REQUEST = Request(concept="church", prompts=("a church",), also=(Target(concept="bomb", prompts=("a bomb",)),))


def change(name: str, value: float, low: float, high: float, n: int = 96) -> Score:
    return Score(name=f"change/{name}", title=name, value=value, low=low, high=high, n=n, subject="comparison")


KEPT = [score for role in ("near", "far") for score in (
    rate(f"retained/{role}", 94, 96), rate(f"original/retained/{role}", 94, 96),
    change(f"retained/{role}", 0.0, -0.03, 0.03))]
GONE = [rate("found/all", 0, 96), rate("original/found/all", 94, 96)]


def way(name: str, stratum: str, k: int, n: int) -> Score:
    return rate(f"{name}@{stratum}", k, n).model_copy(update={"stratum": stratum})


def silent(name: str, pictures: int = 30) -> Score:
    return Score(name=name, title=name, value=None, left_out={"detector failed": pictures}, note="no answer")


def asked(*scores: Score, **changes: object) -> Evaluation:
    return make_evaluation([*scores, *KEPT], strata=WORDS, **changes)


def two(*scores: Score, church: int = 0, bomb: int = 0) -> Evaluation:
    rates = [rate(f"found/all/{name}", hits, 128) for name, hits in (("church", church), ("bomb", bomb))]
    rates += [rate(f"original/found/all/{name}", 120, 128) for name in ("church", "bomb")]
    return asked(*rates, *scores, card=make_card(request=REQUEST))


def drawn(stratum: str, k: int, n: int = 30) -> Score:
    return rate(f"original/drawn/forget@{stratum}", k, n)


def test_where_the_original_draws_no_way_of_asking_often_all_of_them_count() -> None:
    ways_of = [way("found", name, 0, 30) for name in WORDS] + [drawn(name, 21) for name in WORDS]
    said = verdict(asked(rate("found/all", 0, 60), rate("original/found/all", 42, 60), *ways_of))
    assert "say nothing" not in said.sentence
    shown = [way("found", "name", 12, 30), way("found", "short", 0, 30)]
    said = verdict(asked(rate("found/all", 0, 96), rate("original/found/all", 70, 96), *shown, *ways_of[2:]))
    assert said.headline.startswith("Not erased by the name alone")


def test_a_judge_without_an_answer_is_not_an_original_that_does_not_draw() -> None:
    evaluation = asked(*GONE, way("found", "name", 0, 30), way("found", "short", 0, 30),
                       silent("original/drawn/forget@name"), drawn("short", 30))
    said = verdict(evaluation)
    assert "does not draw these" not in said.sentence
    assert "The judge gave no answer on the original's images of these" in said.sentence
    cells = {row.name: row.cells[0] for row in ways(evaluation)[1]}
    assert NO_ANSWER in cells["name"]
    assert NOT_DRAWN not in cells["name"]
    shown = asked(*GONE, way("found", "name", 20, 30), silent("original/drawn/forget@name"), drawn("short", 30))
    assert verdict(shown).headline.startswith("Not erased by the name alone")


@pytest.mark.parametrize("judge", ["", "second/"])
def test_a_way_of_asking_that_no_answer_was_given_on_takes_the_good_word_away(judge: str) -> None:
    second = [rate("second/found/all", 0, 96), rate("second/original/found/all", 94, 96)]
    said = verdict(asked(*GONE, *second, way("found", "short", 0, 90), silent(f"{judge}found@name", 12)))
    assert said.headline.startswith("Drawn less often, not reliably suppressed")
    who = "second judge" if judge else "The judge"
    assert f"{who} gave no answer on any of the edited model's images of these: the name alone." in said.sentence


def test_what_counts_for_the_concept_is_what_the_original_draws_of_the_concept() -> None:
    ways_of = [way("found", "name", 0, 12), way("found", "short", 0, 30), drawn("name", 0, 12), drawn("short", 30),
               rate("original/drawn/keep@name", 50, 50), rate("original/drawn/keep@short", 30, 30)]
    said = verdict(asked(*GONE, *ways_of, way("retained/near", "name", 20, 20)))
    assert "The original does not draw these, so they say nothing: the name alone." in said.sentence
    assert "say nothing" not in said.cost
    heads, rows = ways(asked(*GONE, *ways_of, way("retained/near", "name", 20, 20)))
    cells = dict(zip(heads, next(row.cells for row in rows if row.name == "name"), strict=True))
    assert NOT_DRAWN in cells["concept found"]
    assert NOT_DRAWN not in cells["near kept"]


def test_an_earlier_record_says_by_its_own_rate_whether_the_original_draws_the_concept() -> None:
    said = verdict(asked(*GONE, way("found", "name", 0, 12), way("original/found", "name", 0, 12),
                         way("original/found", "short", 30, 30), rate("original/drawn@name", 50, 62)))
    assert "they say nothing: the name alone." in said.sentence


def test_of_several_concepts_each_names_the_way_of_asking_in_which_it_is_still_drawn() -> None:
    ways_of = [way("found", f"name/{name}", hits, 12).model_copy(update={"stratum": "name"})
               for name, hits in (("church", 12), ("bomb", 0))]
    said = verdict(two(*ways_of, church=12))
    assert said.headline == "“church”: not erased by the name alone; other things are kept"
    assert "Found most often by the name alone: 12 of 12" in said.sentence


def test_of_several_concepts_the_one_in_the_shape_of_the_originals_pictures_is_not_erased() -> None:
    said = verdict(two(rate("instead/shape/church", 0, 60), rate("instead/shape/bomb", 60, 60)))
    assert said.headline == "“bomb”: not erased; other things are kept"
    assert said.tone == "bad"
    assert "Asked for “bomb” in 128 images, the edited model drew it in none of 128" in said.sentence
    assert said.sentence.count("keeps the shape of the original's images, so it is not erased") == 1


def test_a_record_that_does_not_say_which_concept_keeps_its_shape_cannot_tell_of_any() -> None:
    said = verdict(two(rate("instead/shape", 120, 120)))
    assert (said.headline, said.tone) == ("This evaluation cannot tell", "unknown")
    assert "the record does not say in the place of which concept" in said.sentence
    assert verdict(two(rate("instead/shape", 0, 120))).tone == "good"


def test_of_several_concepts_the_one_without_a_picture_in_its_place_is_named() -> None:
    said = verdict(two(rate("instead/nothing/church", 0, 60), rate("instead/nothing/bomb", 50, 60),
                       rate("original/instead/nothing/bomb", 0, 60)))
    assert "in the place of “bomb” no image of anything" in said.headline
    assert "church" not in said.headline
    assert said.tone == "mixed"


@pytest.mark.parametrize("pooled", [
    [rate("second/found/all", 0, 60), rate("second/original/found/all", 6, 60)],
    [silent("second/found/all"), silent("second/original/found/all")]])
def test_a_second_judge_that_cannot_tell_takes_the_good_word_away(pooled: list[Score]) -> None:
    said = verdict(asked(*GONE, *pooled))
    assert said.headline == "Rarely drawn, at a small measured price"
    assert said.tone == "mixed"
    assert "The judges differ on “church”" in said.instead
    seen = [rate("second/found/all", 0, 96), rate("second/original/found/all", 90, 96)]
    assert verdict(asked(*GONE, *seen)).tone == "good"


def test_prompts_are_counted_with_the_pictures_that_could_be_judged() -> None:
    found = rate("found/all", 3, 8, 14).model_copy(update={"prompts": 8})
    said = verdict(asked(found, rate("original/found/all", 22, 22)))
    assert "Asked for “church” in 22 images, the edited model still drew it in 3 of the 8 that could be judged, " \
        "from 8 prompts (37.5%" in said.sentence
    all_judged = rate("found/all", 3, 40).model_copy(update={"prompts": 20})
    said = verdict(asked(all_judged, rate("original/found/all", 40, 40)))
    assert "in 40 images of 20 prompts, the" in said.sentence


@pytest.mark.parametrize(("low", "high", "less"), [(-0.45, 0.15, False), (-0.3, -0.05, True)])
def test_less_often_is_said_only_of_a_change_that_is_shown(low: float, high: float, less: bool) -> None:
    said = verdict(asked(rate("found/all", 55, 100), rate("original/found/all", 70, 100),
                         change("found/all", -0.15, low, high)))
    assert said.headline.startswith("Not erased")
    assert ("drawn less often" in said.sentence) == less


@pytest.mark.parametrize("pairs", [0, 2, 19])
def test_without_pairs_to_compare_nothing_is_told_of_the_edit(pairs: int) -> None:
    paired = change("found/all", -0.5, -0.9, 0.3, pairs) if pairs else \
        Score(name="change/found/all", title="", value=None, note="no pair")
    said = verdict(asked(rate("found/all", 0, 30), rate("original/found/all", 20, 30), paired))
    assert said.headline == "This evaluation cannot tell"
    assert "images judged of both models" in said.sentence
