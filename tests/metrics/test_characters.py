"""Invented characters: drawn from a seed, varied, told apart."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from expunge.errors import UserError
from expunge.metrics import characters
from expunge.metrics.characters import CHARACTERS
from expunge.metrics.invented import OPEN
from expunge.tiny.emoji import SCENE
from expunge.tiny.world import BACKGROUNDS, THINGS

draw_character = partial(characters.draw_character, scene=SCENE, height=64, width=64)
character_pictures = partial(characters.character_pictures, scene=SCENE, height=64, width=64)


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


@pytest.mark.parametrize(("height", "width"), [(256, 256), (96, 160), (160, 96), (512, 384)])
def test_a_character_of_any_size_is_the_same_one_in_the_middle(height: int, width: int) -> None:
    large, ground = characters.draw_character("mofuu", 7, OPEN, height, width)
    small, same = characters.draw_character("mofuu", 7, OPEN, 64, 64)
    assert large.shape == (3, height, width)
    assert ground == same
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    middle = F.interpolate(large[None, :, top:top + side, left:left + side], (64, 64), mode="bilinear", antialias=True)
    assert float((middle[0] - small).abs().mean()) < 0.02
    assert torch.equal(large[:, 0, 0], small[:, 0, 0])


def test_captions_say_what_stands_where() -> None:
    assert OPEN.caption("blorp", "orange") == "a cartoon of a blorp on an orange background"
    assert SCENE.caption("blorp", "white") == "a flat emoji of a blorp on a white background"
