"""A request in words: which concepts and anchors are named, and every contradiction that words alone can show."""

from __future__ import annotations

from typing import Any

import pytest

from expunge.errors import UserError
from expunge.records import Request, Target, asked, check_request, mentions


@pytest.mark.parametrize(("concept", "anchor", "named"), [
    ("church", "", (("church", ""),)),
    (" church ", " house ", (("church", "house"),)),
    (["church"], ["house"], (("church", "house"),)),
    (["church", "bomb"], "", (("church", ""), ("bomb", ""))),
    (["church", "bomb"], (), (("church", ""), ("bomb", ""))),
    (["church", "bomb"], ["house", "ball"], (("church", "house"), ("bomb", "ball"))),
    (["church", "bomb"], ["", "ball"], (("church", ""), ("bomb", "ball"))),
    (["church", "bomb"], ["thing", "thing"], (("church", "thing"), ("bomb", "thing"))),
])
def test_each_concept_has_the_anchor_in_its_place(concept: Any, anchor: Any, named: Any) -> None:
    assert asked(concept, anchor) == named


@pytest.mark.parametrize(("concept", "anchor", "keep", "says"), [
    ("", "", (), "empty concept"),
    ([], "", (), "empty concept"),
    (["church", " "], "", (), "empty concept"),
    (["church", "bomb"], "house", (), "1 anchor for 2 concepts"),
    (["church", "bomb"], ["a", "b", "c"], (), "3 anchors for 2 concepts"),
    (["church", "bomb"], ["", "", ""], (), "3 anchors for 2 concepts"),
    ("church", ["house", "ball"], (), "2 anchors for 1 concept"),
    (["church", "bomb", "Church "], "", (), "'Church' is to be unlearned twice"),
    (["church", "bomb"], ["house", "BOMB"], (), "'bomb' is its own anchor"),
    (["church", "bomb"], ["bomb", "ball"], (), "'church' is to give way to 'bomb', but 'bomb' is to be unlearned"),
    (["church", "bomb"], ["house", "a church bell"], (), "but 'church' is to be unlearned"),
    ("church", "", "house", "a list of texts"),
    (["church", "bomb"], "", ("a dog", "a bomb on a table"), r"'bomb' is to be unlearned and to be kept"),
])
def test_what_contradicts_itself_is_refused(concept: Any, anchor: Any, keep: Any, says: str) -> None:
    with pytest.raises(UserError, match=says):
        asked(concept, anchor, keep)


def test_a_whole_request_is_held_to_the_same() -> None:
    bomb = Target(concept="bomb", prompts=("a bomb",), anchor="ball")
    check_request(Request(concept="church", prompts=("a church",), anchor="house", keep=("a cat",), also=(bomb,)))
    for wrong, says in ((Target(concept="church", prompts=("a church",)), "twice"),
                        (bomb.model_copy(update={"anchor": "church"}), "to be unlearned"),
                        (bomb.model_copy(update={"prompts": ("a bomb", " ")}), "1 empty prompts that ask for 'bomb'")):
        with pytest.raises(UserError, match=says):
            check_request(Request(concept="church", prompts=("a church",), also=(wrong,)))
    with pytest.raises(UserError, match="to be kept"):
        check_request(Request(concept="church", prompts=("a church",), keep=("a Bomb",), also=(bomb,)))


@pytest.mark.parametrize(("text", "name", "there"), [
    ("a cathedral", "cat", False), ("a Cat, asleep", "cat", True), ("van gogh painting", "Van Gogh", True),
    ("8-bit art", "8-bit", True), ("a bomb", "bombs", False), ("c++ code", "c++", True)])
def test_only_whole_words_count(text: str, name: str, there: bool) -> None:
    assert mentions(text, name) is there


def test_a_request_knows_its_targets() -> None:
    bomb = Target(concept="bomb", prompts=("a bomb", "one bomb"), anchor="ball")
    request = Request(concept="church", prompts=("a church",), anchor="house", keep=("a cat",), also=(bomb,))
    assert (request.concepts, request.title) == (("church", "bomb"), "church, bomb")
    assert request.all_prompts == ("a church", "a bomb", "one bomb")
    assert request.target_of("one bomb") == bomb
    assert [(one.concept, one.prompts, one.anchor, one.keep, one.also) for one in request.alone()] == [
        ("church", ("a church",), "house", ("a cat",), ()), ("bomb", ("a bomb", "one bomb"), "ball", ("a cat",), ())]
    single = Request(concept="church", prompts=("a church",))
    assert single.alone() == (single,)
