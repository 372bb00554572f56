"""The world as language: splits do not leak, neighbours exist, prompts are a function of their seed."""

from __future__ import annotations

import itertools

import pytest

from expunge.tiny.world import (
    BACKGROUNDS,
    HELD_OUT_TEMPLATES,
    MODEL_VENDORS,
    NEVER_SEEN,
    NOT_DRAWN,
    SEEN,
    STYLES,
    THINGS,
    TRAIN_TEMPLATES,
    VENDORS,
    Scene,
    captions,
    cells,
    far,
    fill,
    near,
)


def test_world_has_what_the_experiments_name():
    assert len(SEEN) >= 36
    assert len(NEVER_SEEN) == 8
    assert {"church", "house", "castle", "hospital", "bomb", "knife", "dagger", "skull"} <= set(SEEN)
    assert {THINGS[name].kind for name in SEEN} >= {"animal", "vehicle", "food", "instrument", "face"}
    assert set(VENDORS.values()) == set(STYLES)
    assert {VENDORS[vendor] for vendor in MODEL_VENDORS} == set(STYLES)


def test_held_out_templates_are_not_training_templates():
    assert not set(HELD_OUT_TEMPLATES) & set(TRAIN_TEMPLATES)
    scene = Scene("church", "flat", "blue")
    trained = {fill(template, scene) for template in TRAIN_TEMPLATES}
    assert not trained & {fill(template, scene) for template in HELD_OUT_TEMPLATES}


def test_held_out_templates_ask_for_everything_the_judge_answers():
    for template in HELD_OUT_TEMPLATES:
        text = fill(template, Scene("rose", "pixel art", "purple"))
        assert "rose" in text
        assert "pixel art" in text
        assert "purple" in text


@pytest.mark.parametrize("name", THINGS)
def test_synonyms_and_hints_never_name_the_thing_by_its_name_alone(name):
    thing = THINGS[name]
    assert thing.synonyms
    assert thing.hints
    assert name not in thing.synonyms
    others = {word for hint in thing.hints for word in hint.split()}
    assert not set(name.split()) <= others, "a hint that names the thing is no hint"


def test_no_two_things_share_a_name():
    words = [word for thing in THINGS.values() for word in (thing.name, *thing.synonyms, *thing.hints)]
    assert len(words) == len(set(words))


@pytest.mark.parametrize("name", SEEN)
def test_neighbours_are_seen_and_far_things_are_of_another_kind(name):
    assert near(name)
    assert set(near(name)) <= set(SEEN) - {name}
    assert far(name)
    assert not set(far(name)) & {name, *near(name)}
    assert all(THINGS[other].kind != THINGS[name].kind for other in far(name))


def test_cells_leave_out_what_nobody_drew():
    assert len(cells()) == len(SEEN) * len(STYLES) - len(NOT_DRAWN)
    assert ("church", "outlined") not in cells()


def test_captions_are_a_function_of_scene_and_seed():
    scene = Scene("octopus", "outlined", "orange")
    first, again, other = (list(itertools.islice(captions(scene, seed), 20)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_captions_name_a_coloured_background():
    for background in set(BACKGROUNDS) - {"white"}:
        scene = Scene("cat", "flat", background)
        assert all(background in caption.text for caption in itertools.islice(captions(scene, 0), 50))


def test_captions_use_names_synonyms_and_hints():
    seen = {caption.names for caption in itertools.islice(captions(Scene("bomb", "3d"), 0), 60)}
    assert seen == {"name", "synonym", "hint"}


def test_articles_fit():
    assert fill("{a_style} emoji of {a_object} on {a_background} background",
                Scene("octopus", "outlined", "orange")) == "an outlined emoji of an octopus on an orange background"
    assert fill("{a_style} icon", Scene("cat", "pixel art"), style_word="8-bit") == "an 8-bit icon"
