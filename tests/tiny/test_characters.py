"""Invented characters: drawn from a seed, varied, told apart."""

from __future__ import annotations

import pytest
import torch

from expunge.errors import UserError
from expunge.tiny.characters import CHARACTERS, character_pictures, draw_character
from expunge.tiny.world import BACKGROUNDS, THINGS


def test_same_seed_same_picture_other_seed_other_picture():
    a, b = draw_character("blorp", 3)
    again, _ = draw_character("blorp", 3)
    other, _ = draw_character("blorp", 4)
    assert torch.equal(a, again)
    assert not torch.equal(a, other)
    assert b in BACKGROUNDS


def test_pictures_are_in_range_and_captioned():
    pictures, captions = character_pictures("zindle", range(5))
    assert pictures.shape == (5, 3, 64, 64)
    assert pictures.min() >= 0
    assert pictures.max() <= 1
    assert all("zindle" in caption for caption in captions)


def test_characters_differ_more_from_each_other_than_from_themselves():
    drawn = {name: character_pictures(name, range(40))[0][:, :, 20:44, 20:44].mean(0) for name in CHARACTERS}
    halves = {name: character_pictures(name, range(40, 80))[0][:, :, 20:44, 20:44].mean(0) for name in CHARACTERS}
    for name in CHARACTERS:
        own = (drawn[name] - halves[name]).square().mean()
        assert all((drawn[name] - halves[other]).square().mean() > own for other in CHARACTERS if other != name)


def test_names_are_nothing_the_world_knows():
    words = {word for thing in THINGS.values() for text in (thing.name, *thing.synonyms, *thing.hints)
             for word in text.split()}
    assert not words & set(CHARACTERS)


def test_unknown_character_is_an_error():
    with pytest.raises(UserError, match="nobody"):
        draw_character("nobody", 0)
