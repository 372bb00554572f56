"""The user's own prompts for training: used whole, and by the concept that they name."""

from __future__ import annotations

import pytest

from expunge.errors import UserError
from expunge.records import Request, Target, overlap, with_prompts

CHURCH = Target(concept="church", prompts=("a church",), anchor="house")
BOMB = Target(concept="bomb", prompts=("a bomb",))


def test_all_of_them_are_used_in_their_order_whether_they_name_the_concept_or_not() -> None:
    texts = ["where the faithful sing", "a church", "a church bell", "a church"]
    request = with_prompts(Request.of((CHURCH,), ("a house",)), texts)
    assert request.prompts == ("where the faithful sing", "a church", "a church bell")
    assert (request.own, request.anchor, request.keep) == (True, "house", ("a house",))


def test_of_several_concepts_each_takes_those_that_name_it() -> None:
    both = Request.of((CHURCH, BOMB))
    request = with_prompts(both, ["two bombs", "the church's door", "a bomb"])
    assert [target.prompts for target in request.targets] == [("the church's door",), ("two bombs", "a bomb")]
    assert with_prompts(both, {"Church": ["a place of worship"], "bomb": ["boom"]}).prompts == ("a place of worship",)
    for wrong, says in ((["a bomb"], "no prompt of your own asks for 'church'"),
                        (["a church", "a bomb", "boom"], "1 prompts name none or several .*'boom'"),
                        (["a church", "a bomb", "a bomb in a church"], "none or several"),
                        ({"dog": ["a dog"]}, "prompts for 'dog'"), ("a church", "single text")):
        with pytest.raises(UserError, match=says):
            with_prompts(both, wrong)  # type: ignore[arg-type]


def test_texts_that_training_and_test_share_are_found_as_the_encoder_reads_them() -> None:
    request = Request.of((CHURCH,), ("a\u00a0house",))
    assert overlap(request, ["A  Church", "a house", "a castle", ""]) == ("A  Church", "a house")


@pytest.mark.parametrize(("prompts", "said"), [
    ("church", "prompts is the single text 'church'; accepted: a list of texts"),
    ({"church": "church"}, "prompts for 'church' is the single text 'church'"),
    ([], "no prompt of your own; accepted: at least one"), ((), "no prompt of your own"), ({}, "no prompt of your own"),
    ({"church": []}, "no prompt of your own asks for 'church'"), (["a church", " "], "prompts: of 2 number 2 is blank"),
    ({"church": ["", "x"]}, "prompts for 'church': of 2 number 1 is blank"), ([3], "of 1 number 1 is 3"),
    (b"church", "prompts is b'church'"), (iter(["a church"]), "prompts is <list_iterator")])
def test_what_is_no_list_of_texts_is_refused_for_what_it_is(prompts: object, said: str) -> None:
    with pytest.raises(UserError) as told:
        with_prompts(Request.of((CHURCH,)), prompts)  # type: ignore[arg-type]
    assert said in str(told.value)
