"""Names in texts: as an encoder reads them, in all their forms, and not within other words or longer names."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest

from expunge.errors import UserError
from expunge.records import Target, asked, check_request, longer_name, mentions, names, places, same_name
from expunge.records.naming import read
from expunge.records.request import Request

NFC, NFD = unicodedata.normalize("NFC", "Beyoncé"), unicodedata.normalize("NFD", "Beyoncé")
ALIKE = [(NFC, NFD), ("Van Gogh", "Van  Gogh"), ("Van Gogh", "Van\u00a0Gogh"), ("Van Gogh", "Van\nGogh"),
         ("Van Gogh", "Van\tGogh"), ("Van Gogh", "Van\u2009Gogh"), ("Van Gogh", "Van\u3000Gogh"),
         ("Van Gogh", "Van\u2028Gogh"), ("Van Gogh", "VAN GOGH"), ("a\u0323\u0307", "a\u0307\u0323"), ("k", "\u212a"),
         ("\uad50\ud68c", unicodedata.normalize("NFD", "\uad50\ud68c")), ("r2d2", "R2 D2"),
         ("spider-man", "Spider - Man"), ("stra\u00dfe", "STRA\u1e9eE"), ("\u03bf\u03b4\u03c3", "\u039f\u0394\u03a3"),
         ("\u041f\u0443\u0442\u0438\u043d", "\u041f\u0423\u0422\u0418\u041d")]
"""Written otherwise, and the same tokens to CLIP."""
ONE_TO_PEOPLE = [("bomb", "bo\u200dmb"), ("bomb", "bo\u00admb"), ("bomb", "bo\u200bmb"), ("bomb", "\ufeffbomb"),
                 ("bomb", "\u200fbomb"), ("\u2764", "\u2764\ufe0f"), ("\u260e", "\u260e\ufe0f"),
                 ("stra\u00dfe", "STRASSE"), ("\u03b8\u03b5\u03cc\u03c2", "\u0398\u0395\u038c\u03a3"),
                 ("Van Gogh", "Van-Gogh"), ("Van Gogh", "van_gogh"), ("O'Keeffe", "O\u2019Keeffe"), ("bomb", "bombs")]
"""Other tokens, and one name all the same."""
OTHERS = [("bomb", "\uff42\uff4f\uff4d\uff42"), (NFC, "Beyonce"), ("istanbul", "\u0130stanbul"),
          ("diyarbak\u0131r", "diyarbakir"), ("van gogh", "vangogh"), ("\U0001f469", "\U0001f469\u200d\U0001f680")]
"""Neither."""


@pytest.mark.parametrize(("a", "b"), ALIKE)
def test_what_clip_reads_alike_is_one_name_without_a_tokenizer_at_hand(model: Any, a: str, b: str) -> None:
    assert model.texts[0].tokens(a) == model.texts[0].tokens(b)
    for reader in (read, model.texts[0].reader):
        assert same_name(a, b, reader)
        assert names(f"a picture of {b}, at sea", a, reader)


@pytest.mark.parametrize(("a", "b"), ONE_TO_PEOPLE)
def test_what_people_cannot_tell_apart_is_one_name_too(model: Any, a: str, b: str) -> None:
    assert model.texts[0].tokens(a) != model.texts[0].tokens(b)
    assert same_name(a, b)
    assert names(f"a picture of {b}, at sea", a)


@pytest.mark.parametrize(("a", "b"), OTHERS)
def test_what_an_encoder_reads_otherwise_is_another_name(model: Any, a: str, b: str) -> None:
    assert model.texts[0].tokens(a) != model.texts[0].tokens(b)
    assert not same_name(a, b)
    assert not mentions(b, a)


@pytest.mark.parametrize(("a", "b"), [*ALIKE, *ONE_TO_PEOPLE])
def test_erasing_and_keeping_one_name_is_refused_and_so_is_erasing_it_twice(a: str, b: str) -> None:
    with pytest.raises(UserError, match="to be kept"):
        asked(a, "", [b])
    with pytest.raises(UserError, match="twice"):
        asked([a, b])
    with pytest.raises(UserError, match="its own anchor"):
        asked(a, b)


def test_the_models_own_tokenizer_decides_where_there_is_one() -> None:
    wide = unicodedata.normalize  # a reader that takes full-width letters for plain ones, as T5's does
    request = Request(concept="bomb", prompts=("a bomb",), keep=("\uff42\uff4f\uff4d\uff42",))
    check_request(request)
    with pytest.raises(UserError, match="to be kept"):
        check_request(request, lambda text: read(wide("NFKC", text)))


@pytest.mark.parametrize(("text", "name", "there"), [
    ("\u6559\u4f1a\u306e\u5199\u771f", "\u6559\u4f1a", True), ("\u0e41\u0e21\u0e27\u0e14\u0e33",
    "\u0e41\u0e21\u0e27", True),
    ("\u4e00\u4e2a\u6559\u5802", "\u6559\u5802", True), ("\uad50\ud68c\uc758 \uc0ac\uc9c4", "\uad50\ud68c", True),
    ("\u5b66\u6821", "\u6559\u4f1a", False), ("\ubc30\uc6b0", "\ubc30", False), ("catapult", "cat", False),
    ("concat", "cat", False), ("\u043a\u043e\u0442\u043b\u0435\u0442\u0430", "\u043a\u043e\u0442", False),
    ("in 1984", "84", False), ("r2d2", "r2", False), ("a cat2", "cat", False), ("8-bit", "8-bit", True),
    ("c++ and c", "c++", True), ("", "cat", False)])
def test_whole_words_count_and_without_blanks_whatever_stands_there(text: str, name: str, there: bool) -> None:
    assert mentions(text, name) is there


@pytest.mark.parametrize(("text", "name", "form"), [
    ("two churches", "church", "plural"), ("knives", "knife", "plural"), ("wolves", "wolf", "plural"),
    ("babies", "baby", "plural"), ("mice", "mouse", "plural"), ("people", "person", "plural"), ("men", "man", "plural"),
    ("heroes", "hero", "plural"), ("geese", "goose", "plural"), ("cacti", "cactus", "plural"), ("sheep", "sheep",
    "name"),
    ("Van Goghs", "Van Gogh", "plural"), ("glasses of wine", "glass of wine", "plural"), ("firemen", "fireman",
    "plural"),
    ("the church's door", "church", "possessive"), ("the church\u2019s door", "church", "possessive"),
    ("the churches' doors", "church", "plural"), ("Jesus' face", "Jesus", "possessive")])
def test_word_forms_name_it(text: str, name: str, form: str) -> None:
    (place,) = places(text, name)
    assert place.form == form
    assert names(text, name)


def test_a_singular_does_not_name_a_plural() -> None:
    """"a glass of water" must not be refused when "glasses" go, nor "a new car" when "news" goes."""
    for text, name in (("a glass of water", "glasses"), ("a new car", "news"), ("a bomb", "bombs")):
        assert not mentions(text, name)


@pytest.mark.parametrize(("text", "name", "longer"), [
    ("a nurse shark over a reef", "nurse", "nurse shark"), ("the Apple company logo", "apple", "Apple company logo"),
    ("an apple pie", "apple", "apple pie"), ("a church bell", "church", "church bell"),
    ("Paris Hilton in a car", "Paris", "Paris Hilton"), ("spider-man", "spider", "spider-man"),
    ("two hot dogs", "dog", "hot dogs"), ("a teddy bear", "bear", "teddy bear"),
    ("a computer mouse", "mouse", "computer mouse")])
def test_a_longer_name_is_another_thing(text: str, name: str, longer: str) -> None:
    assert mentions(text, name)
    assert not names(text, name)
    assert longer_name(text, name) == longer
    assert asked(name, "", [text]) == ((name, ""),)


@pytest.mark.parametrize(("text", "name"), [
    ("a nurse in a hospital", "nurse"), ("a nurse smiling", "nurse"), ("a nurse helps a patient", "nurse"),
    ("church, pixel art", "church"), ("a church photo", "church"), ("a stone church", "church"),
    ("a nurse shark and a nurse", "nurse"), ("a red dog", "dog"), ("a church at night", "church"),
    ("Van Gogh painting", "Van Gogh"), ("the nurse's hat", "nurse"), ("a nurse, shark behind her", "nurse")])
def test_what_stands_by_itself_is_named(text: str, name: str) -> None:
    assert names(text, name)
    assert longer_name(text, name) == ""
    with pytest.raises(UserError, match="to be kept"):
        asked(name, "", [text])


def test_what_is_in_a_style_is_that_style() -> None:
    assert not names("Van Gogh sunflowers", "Van Gogh")
    assert names("Van Gogh sunflowers", "Van Gogh", always=True)
    with pytest.raises(UserError, match="to be kept"):
        asked("Van Gogh", "", ["Van Gogh sunflowers"])
    assert asked("Van Gogh", "", ["Van Gogh sunflowers"], kinds=["person"])


def test_both_parts_of_a_joint_concept_must_be_named() -> None:
    both = Target(concept="church in pixel art", prompts=("a pixel art church",),
                  joint={"object": "church", "style": "pixel art"})
    check_request(Request.of((both,), ("a church", "a pixel art house", "pixel art")))
    for text in ("a pixel-art church", "churches, pixel art", "a church emoji in pixel art style"):
        with pytest.raises(UserError, match="to be kept"):
            check_request(Request.of((both,), (text,)))
