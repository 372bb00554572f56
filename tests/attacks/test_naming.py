"""Where prompts name a concept."""

from __future__ import annotations

import pytest

from expunge.attacks.naming import named_at, renamed


def test_only_whole_words_name_a_concept() -> None:
    assert named_at("a flat Church, at sea", "church") == (7, 13)
    assert named_at("a churchyard", "church") is None
    assert named_at("two churches and a churchyard", "church") == (4, 12)
    assert named_at("a church bell by a church", "church") == (19, 25)
    assert named_at("in pixel art style", "pixel art") == (3, 12)


@pytest.mark.parametrize(("text", "concept", "word", "expected"), [
    ("a church on a hill", "church", "house", "a house on a hill"),
    ("a church on a hill", "church", "object", "an object on a hill"),
    ("an apple, an Apple", "apple", "dog", "a dog, a dog"),
    ("a flat church", "church", "", "a flat"),
    ("a church on a hill", "church", "", "on a hill"),
    ("a churchyard", "church", "house", None),
    ("churches at sea", "church", "", "at sea"),
    ("the churches' doors", "church", "knife", "the knives' doors"),
    ("the church\u2019s doors", "church", "", "the doors"),
    ("a glass of wine", "glass of wine", "apple pie", "an apple pie"),
    ("two glasses of wine", "glass of wine", "cup of tea", "two cups of tea"),
    ("a nurse by a nurse shark", "nurse", "unicorn", "a unicorn by a nurse shark"),
])
def test_another_word_takes_the_place_with_its_article(text: str, concept: str, word: str, expected: str | None
                                                       ) -> None:
    assert renamed(text, concept, word) == expected
