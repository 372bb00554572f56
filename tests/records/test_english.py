"""Articles by sound, plurals by spelling."""

from __future__ import annotations

import pytest

from expunge.records.english import article, is_plural, plurals, with_article


@pytest.mark.parametrize("words", [
    "a unicorn", "an hour", "a European", "an MRI", "a one-eyed man", "an 8-bit console", "an X-ray", "a UFO",
    "an SUV", "an honest man", "a ukulele", "an heir", "a euro", "a uniform", "an umbrella", "an 11th hour",
    "an 18-wheeler", "a 1-up", "an FBI agent", "a USB stick", "a UK flag", "an EU flag", "an LED lamp",
    "a NASA rocket", "an ATM", "an unusual dog", "an unidentified object", "a university", "a user", "an usher",
    "an Uber", "an onion", "a HAT", "a FLAG", "an owl", "an apple", "a house", "an \u00e9clair", "a one-way street",
    "an MP3 player", "a once-loved toy", "an urn", "a Ugandan"])
def test_articles_go_by_sound(words: str) -> None:
    an, rest = words.split(" ", 1)
    assert article(rest) == an


@pytest.mark.parametrize(("name", "said"), [
    ("nudity", "nudity"), ("blood", "blood"), ("Van Gogh", "Van Gogh"), ("Elon Musk", "Elon Musk"),
    ("glasses",
    "glasses"), ("pair of scissors", "a pair of scissors"), ("glass of wine", "a glass of wine"),
    ("bus", "a bus"), ("lens",
    "a lens"), ("children", "children"), ("European castle", "a European castle"),
    ("German shepherd", "a German shepherd"), ("MRI scan", "an MRI scan"), ("the moon", "the moon"),
    ("two dogs", "two dogs"), ("grinning face",
    "a grinning face"), ("octopus", "an octopus"),
    ("cross", "a cross"), ("bowl of fruit", "a bowl of fruit"), ("", "")])
def test_proper_names_mass_nouns_and_plurals_take_no_article(name: str, said: str) -> None:
    assert with_article(name) == said


def test_plurals_are_those_of_the_spelling_and_the_irregular_ones() -> None:
    for one, many in (("knife", "knives"), ("wolf", "wolves"), ("lady", "ladies"), ("key", "keys"), ("bus", "buses"),
                      ("box", "boxes"), ("hero", "heroes"), ("roof", "roofs"), ("mouse", "mice"), ("woman", "women"),
                      ("snowman", "snowmen"), ("human", "humans"), ("child", "children"), ("fish", "fish")):
        assert many in plurals(one)
    assert all(map(is_plural, ("men", "churches", "glasses")))
    assert not any(map(is_plural, ("bus", "glass", "lens", "cactus", "iris", "church")))
