"""Truth table of the verdict: over the whole range of what a record can hold, no sentence says more than its numbers.

The oracle below is written apart from the classes: it looks only at intervals.
"""

from __future__ import annotations

import itertools
import re

import pytest
from report_examples import make_evaluation, number, rate

from expunge.records import NOT_DRAWN, Score
from expunge.report.price import price_of
from expunge.report.verdict import verdict

FOUND = (None, (0, 96), (3, 96), (12, 96), (45, 96), (96, 96), (0, 12))
ORIGINAL = (None, (96, 96), (45, 96), (10, 96), (12, 12))
FALLS = (None, (0.0, -0.03, 0.03), (0.02, -0.06, 0.09), (0.06, -0.05, 0.17), (0.08, 0.02, 0.14), (0.45, 0.25, 0.6),
         (0.9, 0.8, 0.96))
INTEGRITY = (None, 1.0, 0.7, 0.05, -2.0)
CLAIMS = {"not erased": "still", "rarely drawn": "rare", "drawn less often": "less", "cannot tell": "unknown",
          "the model is damaged": "damaged"}


def change(name: str, value: float, low: float, high: float) -> Score:
    return Score(name=f"change/{name}", title=name, value=value, low=low, high=high, n=96, subject="comparison")


def rates(name: str, edited: tuple[int, int] | None, original: tuple[int, int] | None) -> list[Score]:
    return [rate(full, *counts) for full, counts in ((name, edited), (f"original/{name}", original)) if counts]


def falls(near: tuple[float, ...] | None, far: tuple[float, ...] | None) -> list[Score]:
    out = []
    for role, fall in (("near", near), ("far", far)):
        if fall:
            kept = round((1 - max(0.0, fall[0])) * 96)
            out += [*rates(f"retained/{role}", (kept, 96), (96, 96)),
                    change(f"retained/{role}", -fall[0], -fall[2], -fall[1])]
    return out


def claim(headline: str) -> str:
    return next(kind for words, kind in CLAIMS.items() if words in headline.lower())


def apart(score: Score, aside: int, unjudged: int = 0) -> Score:
    return score.model_copy(update={"left_out": {NOT_DRAWN: aside, "abstained": unjudged}, "prompts": score.n})


@pytest.mark.parametrize(("unjudged", "says"), [
    (0, "Asked for “church” in 49 images (43 set aside: the original does not draw them), the edited model drew it "
        "in none of the 6 others, from 6 prompts (0%"),
    (2, "Asked for “church” in 51 images (43 set aside: the original does not draw them), the edited model drew it "
        "in none of the 6 others that could be judged, from 6 prompts (0%")])
def test_neighbouring_sentences_count_the_same_pictures_and_say_which_are_set_aside(unjudged: int, says: str) -> None:
    scores = [apart(rate("found/all", 0, 6), 43, unjudged), apart(rate("original/found/all", 6, 6), 43),
              rate("instead/another", 40, 49 + unjudged), rate("something_else/all", 9, 48)]
    said = verdict(make_evaluation(scores))
    assert says in said.sentence
    assert f"Drawn in its place in {49 + unjudged} images, set aside or not: another thing" in said.instead
    assert "The judge had no name for 9 of 48 on which it worked" in said.instead
    fewer = verdict(make_evaluation([*scores[:2], rate("instead/another", 30, 40)]))
    assert f"in 40 images, set aside or not, {9 + unjudged} that cannot be looked at left out:" in fewer.instead


@pytest.mark.parametrize(("found", "reason"), [
    ((4, 5), "it is still drawn"), ((60, 96), "it is drawn less often, but still drawn"),
    ((0, 96), "keeps the shape of the original's images, so it is not erased")])
def test_the_reason_given_is_the_one_that_decided(found: tuple[int, int], reason: str) -> None:
    scores = [*rates("found/all", found, (found[1], found[1])), rate("instead/shape", 90, 96)]
    if found[1] == 96:
        scores.append(change("found/all", found[0] / 96 - 1, found[0] / 96 - 1.05, found[0] / 96 - 0.95))
    said = verdict(make_evaluation(scores))
    assert "not erased" in said.headline.lower()
    assert reason in said.sentence
    assert ("shape" in said.sentence) == ("shape" in reason)


@pytest.mark.parametrize(("found", "original"), [*itertools.product(FOUND, ORIGINAL)])
def test_nothing_is_said_of_erasure_that_the_rates_do_not_carry(found, original):
    said = verdict(make_evaluation([*rates("found/all", found, original), *falls(FALLS[1], FALLS[1])]))
    told = claim(said.headline)
    if found is None:
        assert told == "unknown"
        assert "not measured" in said.sentence
        return
    assert str(found[1]) in said.sentence  # n is in the sentence
    assert "95% interval" in said.sentence
    as_often = original is not None and found[0] / found[1] >= original[0] / original[1]
    low = rate("x", *found).low
    if low >= 0.2:
        assert told == "still"
    elif original is None or original[0] / original[1] < 0.5 or min(found[1], original[1]) < 20:
        assert told == "unknown"
    elif as_often:
        assert told == "still"
    else:
        assert told in ("rare", "less")
        assert told == "less" or rate("x", *found).high <= 0.1
    if told in ("still", "unknown"):
        assert not re.search(r"rarely|not elicited|less often than", f"{said.headline} {said.sentence}")
    assert said.tone == {"still": "bad", "unknown": "unknown", "less": "mixed", "rare": "good"}[told]


@pytest.mark.parametrize(("near", "far"), [*itertools.product(FALLS, FALLS)])
def test_nothing_is_said_of_the_price_that_the_falls_do_not_carry(near, far):
    evaluation = make_evaluation([*rates("found/all", (0, 96), (96, 96)), *falls(near, far)])
    said, known = verdict(evaluation), [fall for fall in (near, far) if fall]
    headline = said.headline
    if "small measured price" in headline:
        assert len(known) == 2
        assert all(high <= 0.10 for _, _, high in known)
        assert said.tone == "good"
    if "some other things were lost" in headline or "much else was lost" in headline:
        assert any(low > 0 for _, low, _ in known)
    if "much else was lost" in headline:
        assert any(value > 0.30 and low > 0.10 for value, low, _ in known)
    if "damaged" in headline:
        assert len(known) == 2
        assert all(low >= 0.40 for _, low, _ in known)
    if "not measured" in headline:
        assert not known
    if "unclear" in headline:
        assert not any(low > 0 and high > 0.10 for _, low, high in known)
        assert "cannot be excluded" in said.cost
    if any(value > 0.30 and low > 0.10 for value, low, _ in known):
        assert said.tone == "bad"  # the other way round: a heavy fall is never passed over
    for role, fall in (("near neighbours", near), ("far things", far)):
        assert (f"{role} not measured" in said.cost) == (fall is None)


@pytest.mark.parametrize(("near", "far"), [*itertools.product(INTEGRITY, INTEGRITY)])
def test_pictures_are_said_to_have_changed_only_where_integrity_evidently_fell(near, far):
    known = [number(f"integrity/{role}", value) for role, value in (("near", near), ("far", far)) if value is not None]
    evaluation = make_evaluation([*rates("found/all", (0, 96), (96, 96)), *falls(FALLS[1], FALLS[1]), *known])
    said, moved = verdict(evaluation), any(score.high < 0.5 for score in known)
    assert ("images changed, subjects kept" in said.headline) == moved
    assert ("Integrity was not measured" in said.cost) == (not known)


@pytest.mark.parametrize("interval", [(-1.79, 1.0), (-0.9, 0.6), (0.3, 0.49)])
def test_the_class_uses_the_interval_of_integrity_and_not_its_point(interval):
    score = number("integrity/far", -0.02).model_copy(update={"low": interval[0], "high": interval[1]})
    evaluation = make_evaluation([*rates("found/all", (0, 96), (96, 96)), *falls(FALLS[1], FALLS[1]), score])
    assert (price_of(evaluation) == "changed") == (interval[1] < 0.5)


def with_strata(*scores: Score) -> object:
    usual = [*rates("found/all", (0, 96), (96, 96)), *falls(FALLS[1], FALLS[1])]
    drawn = [rate(f"original/drawn@{name}", 48, 48) for name in ("short", "full")]
    return make_evaluation([*usual, *drawn, *scores], plain=("short",),
                           strata={"short": "the shortest sentences", "full": "everything spelt out"})


def in_stratum(name: str, fall: tuple[float, ...]) -> list[Score]:
    stratum = name.partition("@")[2]
    kept = rate(f"retained/{name}", round((1 - fall[0]) * 48), 48).model_copy(update={"stratum": stratum})
    return [kept, rate(f"original/retained/{name}", 48, 48), change(f"retained/{name}", -fall[0], -fall[2], -fall[1])]


@pytest.mark.parametrize(("short", "full"), [*itertools.product(FALLS[1:], FALLS[1:])])
def test_plain_prompts_are_said_to_be_damaged_only_if_they_alone_are(short, full):
    said = verdict(with_strata(*in_stratum("near@short", short), *in_stratum("near@full", full)))
    if "plain prompts are damaged" in said.headline:
        assert short[1] > 0.10
        assert full[1] <= 0
    if short[1] > 0.10:
        assert said.tone == "bad" or short[0] <= 0.30
        assert said.tone != "good"
        assert "Lost most: near things asked for by" in said.cost


@pytest.mark.parametrize(("count", "erasure"), [(0, "rare"), (2, "rare"), (9, "less"), (20, "still")])
def test_one_way_of_asking_in_which_it_is_drawn_takes_the_good_word_away(count, erasure):
    found = [rate("found@short", count, 48).model_copy(update={"stratum": "short"}),
             rate("found@full", 0, 48).model_copy(update={"stratum": "full"})]
    said = verdict(with_strata(*found))
    assert claim(said.headline) == erasure
    assert ("Not erased by the shortest sentences" in said.headline) == (erasure == "still")
    assert "the shortest sentences" in said.sentence or not count


def test_a_way_of_asking_that_the_original_does_not_draw_says_nothing():
    found = [rate("found@short", 20, 48).model_copy(update={"stratum": "short"}),
             rate("original/drawn@short", 10, 48), rate("original/drawn@full", 48, 48)]
    scores = [*rates("found/all", (0, 96), (96, 96)), *falls(FALLS[1], FALLS[1]), *found]
    said = verdict(make_evaluation(scores, strata={"short": "the shortest sentences", "full": "everything spelt out"}))
    assert claim(said.headline) == "rare"
    assert "The original does not draw these, so they say nothing: the shortest sentences." in said.sentence


def second(*scores: Score) -> list[Score]:
    return [score.model_copy(update={"name": f"second/{score.name}"}) for score in scores]


def test_a_claim_that_holds_under_one_judge_only_is_told_as_such():
    first = [*rates("found/all", (0, 96), (96, 96)), *falls(FALLS[1], FALLS[1])]
    other = second(*rates("found/all", (40, 96), (96, 96)), *falls(FALLS[1], FALLS[1]))
    said = verdict(make_evaluation([*first, *other]))
    assert said.headline.startswith("Not erased")
    assert "The judges differ on “church”" in said.instead
    lost = verdict(make_evaluation([*first[:2], *falls(FALLS[5], FALLS[1]),
                                    *second(*rates("found/all", (0, 96), (96, 96)), *falls(FALLS[1], FALLS[1]))]))
    assert "the second judge sees 0 points" in lost.cost
    blind = second(*rates("found/all", (0, 96), (10, 96)))  # it does not see the concept in the original
    assert verdict(make_evaluation([*first, *blind])).headline.startswith("Rarely drawn")


@pytest.mark.parametrize(("name", "count", "words"), [
    ("instead/nothing", 40, "in its place no image of anything"),
    ("something_else/all", 70, "what is drawn instead often has no name"),
    ("instead/shape", 40, "Not erased")])
def test_gone_is_not_clean_where_nothing_else_was_positively_seen(name, count, words):
    usual = [*rates("found/all", (0, 96), (96, 96)), *falls(FALLS[1], FALLS[1])]
    assert verdict(make_evaluation(usual)).tone == "good"
    said = verdict(make_evaluation([*usual, rate(name, count, 96)]))
    assert words in said.headline
    assert said.tone != "good"


@pytest.mark.parametrize("instead", [[], [Score(name="instead/nothing", title="t", value=None, note="7 images"),
                                          rate("something_else/all", 0, 96)]])
def test_gone_is_not_clean_where_what_is_drawn_instead_was_not_measured(instead):
    usual = [*rates("found/all", (0, 96), (96, 96)), *falls(FALLS[1], FALLS[1])]
    said = verdict(make_evaluation().model_copy(update={"scores": (*usual, *instead)}))
    assert said.headline == "Rarely drawn; what is drawn instead was not measured, at a small measured price"
    assert said.tone == "mixed"


def test_an_empty_record_says_that_nothing_was_measured():
    said = verdict(make_evaluation([]))
    assert said.headline == "This evaluation cannot tell"
    assert "was not measured" in said.sentence
    assert "Integrity was not measured" in said.cost
    assert not said.instead


def test_a_failed_detector_is_no_erasure():
    failed = Score(name="found/all", title="found", value=None, left_out={"detector failed": 96}, note="no answer")
    said = verdict(make_evaluation([failed, rate("original/found/all", 96, 96), *falls(FALLS[1], FALLS[1])]))
    assert claim(said.headline) == "unknown"
