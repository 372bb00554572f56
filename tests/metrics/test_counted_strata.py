"""What counts is decided for each concept and for the keep side by themselves, and never for want of an answer."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from rated import rated

from expunge.metrics.base import Aim
from expunge.metrics.rates import rates
from expunge.metrics.reliability import evaluation_warnings
from expunge.records import NOT_DRAWN, Detection, ImageRecord, Prompt, Role, Sampler, Score

CHURCH, BOMB = Aim("church", "object"), Aim("bomb", "object")
Judged = list[tuple[ImageRecord, Detection]]


def pictures(thing: str, stratum: str, share: float | None, role: Role = "direct", count: int = 10, error: str = ""
             ) -> Judged:
    """`count` pictures of which this share shows what was asked for, and the others a dog; None: no answer."""
    out = []
    for i in range(count):
        prompt = Prompt(text=f"{role} {stratum} {thing} {i}", role=role, labels={"object": thing}, stratum=stratum)
        shot = ImageRecord(prompt=prompt, seed=0, sampler=Sampler(), model="m")
        seen = {} if share is None else {"object": thing if i < share * count else "dog"}
        out.append((shot, Detection(shot=shot.key, detector="d", answers=seen, error=error)))
    return out


def asked(church: float | None, keep: float = 1.0, bomb: float | None = None) -> Judged:
    """The name alone at these shares; the shortest sentences are always drawn."""
    things: Collection[tuple[str, float | None]] = [("church", church), *([("bomb", bomb)] if bomb is not None else [])]
    out = [item for thing, share in things
           for item in (*pictures(thing, "name", share), *pictures(thing, "short", 1.0))]
    return [*out, *pictures("house", "name", keep, "near", 40), *pictures("house", "short", 1.0, "near", 40)]


def test_a_concept_that_the_original_never_draws_in_a_way_of_asking_is_not_made_to_count_by_kept_things() -> None:
    scores = rated(asked(0.0), [CHURCH])
    assert scores["original/drawn/forget@name"].value == 0.0
    assert scores["original/drawn/keep@name"].value == 1.0
    assert (scores["found/all"].n, scores["found/all"].left_out[NOT_DRAWN]) == (10, 10)
    assert scores["retained/near"].n == 80


def test_kept_things_that_the_original_does_not_draw_leave_the_concept_in() -> None:
    scores = rated(asked(1.0, keep=0.1), [CHURCH])
    assert scores["found/all"].n == 20
    assert (scores["retained/near"].n, scores["retained/near"].left_out[NOT_DRAWN]) == (40, 40)


def test_of_several_concepts_what_is_not_drawn_of_one_counts_for_the_others() -> None:
    scores = rated(asked(0.0, bomb=1.0), [CHURCH, BOMB])
    assert (scores["found/all/church"].n, scores["found/all/bomb"].n, scores["found/all"].n) == (10, 20, 30)
    assert scores["original/drawn/forget@name/church"].value == 0.0
    assert scores["change/found/all/church"].n == 10


def test_a_stratum_of_which_the_judge_said_nothing_of_the_original_stays_in() -> None:
    for error in ("", "broke"):
        before = [*pictures("church", "name", None, error=error), *asked(1.0)[10:]]
        scores = rated(asked(0.5), [CHURCH], before)
        assert scores["original/drawn/forget@name"].value is None
        assert (scores["found/all"].n, scores["found/all"].left_out.get(NOT_DRAWN, 0)) == (20, 0)


def test_where_no_way_of_asking_is_drawn_often_all_count() -> None:
    before = [*pictures("church", "name", 0.7), *pictures("church", "short", 0.7)]
    assert rated(before, [CHURCH], before)["found/all"].n == 20


def test_the_first_judge_decides_for_both_what_counts() -> None:
    one, other = asked(0.0), asked(1.0)
    _, apart = rates(one, one, [CHURCH])
    scores, _ = rates(other, other, [CHURCH], "second/", apart)
    assert {score.name: score.n for score in scores}["second/found/all"] == 10


def score(name: str, value: float | None, n: int = 60, failed: int = 0) -> Score:
    return Score(name=name, title=name, value=value, n=n, left_out={"detector failed": failed})


@pytest.mark.parametrize(("judge", "who"), [("", "The judge"), ("second/", "The second judge")])
@pytest.mark.parametrize(("name", "value", "words"), [
    ("found/keep", 0.5, "sees the concept where something else was asked for in 50.0% of the edited"),
    ("original/found/never_seen", 1.0, "recognises things that the model never saw in 100.0% of the original"),
    ("original/found/all", 0.1, "finds the concept in only 10% of the original"),
    ("abstained/all", 0.9, "abstained on 90% of the edited model's images that ask for the concept"),
    ("abstained/near", 0.6, "abstained on 60% of the edited model's images of near things"),
    ("original/abstained/far", 0.6, "abstained on 60% of the original model's images of far things"),
    ("found/all", None, "gave no answer on any of the edited")])
def test_each_judge_has_warnings_of_its_own(judge: str, who: str, name: str, value: float | None, words: str) -> None:
    said = [one for one in evaluation_warnings([score(f"{judge}{name}", value)]) if words in one]
    assert len(said) == 1
    assert who.lower() in said[0].lower()


@pytest.mark.parametrize("judge", ["", "second/"])
def test_a_judge_that_failed_gets_a_warning(judge: str) -> None:
    said = evaluation_warnings([score(f"{judge}retained/near", None, 0, failed=60)])
    assert [one.partition(" failed on images")[0] for one in said] == ["The second judge" if judge else "The judge"]


def test_answers_on_everything_raise_no_warning() -> None:
    fine = [score(f"{judge}abstained/{role}", 0.1) for judge in ("", "second/") for role in ("near", "far", "all")]
    assert not evaluation_warnings(fine)
