"""Prompts to keep are made from a vocabulary and filtered for the request's own concepts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import expunge
from expunge.errors import ConfigError, UserError
from expunge.metrics.open_prompts import FAR_THINGS, KEPT_THINGS, bare
from expunge.metrics.open_world import open_world
from expunge.records import Request, Target
from expunge.tiny.emoji import emoji_world
from expunge.tiny.world import SEEN
from expunge.unlearn.keep import MatchTeacher
from expunge.unlearn.recipe import Recipe
from expunge.unlearn.retain import Retain, closest
from expunge.unlearn.source import FrozenTrajectory

REQUEST = Request(concept="church", prompts=("a church on a hill",), keep=("a house by the sea",))
THINGS = ("dog", "castle", "knife", "old church", "churches", "sea", "churchill")


def test_things_with_the_concept_or_its_other_names_in_them_are_left_out(model: Any) -> None:
    found = Retain(things=THINGS, names=("sea",), similar=1.0).retained(model, REQUEST)
    assert found.prompts == ("a photo of a dog", "a photo of a castle", "a photo of a knife", "a photo of a churchill")
    assert set(found.left_out) == {"old church", "churches", "sea"}
    assert found.request.keep == (*REQUEST.keep, *found.prompts)
    assert found.request.model_copy(update={"keep": REQUEST.keep}) == REQUEST


def test_what_goes_is_left_out_only_where_somebody_asked_to_keep_it() -> None:
    embedded = expunge.load("embedded", device="cpu")
    request = emoji_world().prompts.request("church")
    assert "church" not in Retain().retained(embedded, request).left_out
    assert Retain(things=("church", "dog")).retained(embedded, request).left_out == {
        "church": "names a concept that is to go"}


def test_a_longer_name_that_holds_the_concepts_is_another_thing(model: Any) -> None:
    things = ("church bell", "hot dog", "teddy bear", "brown bear", "dog")
    found = Retain(things=things, similar=1.0).retained(model, Request.of(tuple(
        Target(concept=name, prompts=(f"a {name}",)) for name in ("church", "dog", "bear"))))
    named = {thing for thing, why in found.left_out.items() if why == "names a concept that is to go"}
    assert named == {"dog", "brown bear"}
    assert found.prompts == ("a photo of a church bell", "a photo of a hot dog")
    assert set(found.left_out) - named == {"a photo of a teddy bear"}, "too long for this encoder"


def test_parts_of_what_goes_only_together_stay(model: Any) -> None:
    both = Target(concept="church with dogs", prompts=("dogs with church",), joint={"object": "church", "with": "dogs"})
    found = Retain(things=("church", "dog", "a church full of dogs"), similar=1.0).retained(model, Request.of((both,)))
    assert set(found.left_out) == {"a church full of dogs"}


def test_every_concept_of_a_request_is_filtered(model: Any) -> None:
    two = REQUEST.model_copy(update={"also": (Target(concept="dog", prompts=("a dog",)),)})
    found = Retain(things=THINGS, similar=1.0).retained(model, two)
    assert {"dog", "churches"} <= set(found.left_out)


def test_closeness_is_the_cosine_at_the_end_token_without_the_mean(model: Any) -> None:
    texts = ["a dog", "the castle on a hill", "church"]
    with torch.no_grad():
        cond = model.encode(texts)
    lengths = [len(model.texts[0].tokenizer(text).input_ids) for text in texts]  # start and end included
    e = torch.stack([cond.states[row, length - 1] for row, length in enumerate(lengths)])
    e = e - e.mean(0)
    wanted = torch.cosine_similarity(e[:2], e[2:], dim=1)
    (_, first), (name, second) = closest(model, texts[:2], texts[2:])
    assert name == "church"
    torch.testing.assert_close(torch.tensor([first, second]), wanted, rtol=1e-4, atol=1e-5)


def test_threshold_is_the_one_that_was_set_and_the_reason_is_told(model: Any) -> None:
    close = dict(zip(THINGS[:3], (value for _, value in closest(model, THINGS[:3], ["church"])), strict=True))
    nearest = max(close, key=lambda thing: close[thing])
    limit = max(value for thing, value in close.items() if thing != nearest) / 2 + close[nearest] / 2
    found = Retain(things=THINGS[:3], similar=max(limit, 1e-3)).retained(model, REQUEST)
    left = {thing for thing, value in close.items() if value >= max(limit, 1e-3)}
    assert set(found.left_out) == left
    assert all("close to church" in reason for reason in found.left_out.values())


def test_things_can_come_from_a_file(model: Any, tmp_path: Path) -> None:
    file = tmp_path / "things.txt"
    file.write_text("dog\n\n castle \n", encoding="utf-8")
    recipe = Recipe().override({"retain": {"things": str(file)}})
    assert recipe.retain == Retain(things=("dog", "castle"))  # the card holds the things themselves
    with pytest.raises(ConfigError, match="one thing a line"):
        Recipe().override({"retain.things": str(tmp_path / "nothing.txt")})


def test_vocabularies_of_the_worlds_are_prompts_of_training() -> None:
    words = emoji_world().prompts.vocabulary()
    assert tuple(words) == SEEN
    assert words["church"] == emoji_world().prompts.request("church").prompts
    with pytest.raises(UserError, match="unknown thing 'elefant'"):
        emoji_world().prompts.vocabulary(["elefant"])
    assert open_world().prompts.vocabulary(["apple"]) == {"apple": ("a photo of an apple",)}
    assert not {bare(thing) for thing in FAR_THINGS} & set(KEPT_THINGS)  # what is measured is not trained on


def test_recipe_keeps_what_was_made_and_says_so_in_the_card(model: Any) -> None:
    source = FrozenTrajectory(grid=3, trajectories=7, rounds=True)
    recipe = Recipe(source=FrozenTrajectory(grid=3, trajectories=2), keep=MatchTeacher(source=source), steps=2,
                    retain=Retain(things=THINGS, similar=1.0))
    patch = recipe(model, REQUEST)
    card = patch.card
    assert card.request == REQUEST
    made = Retain(things=THINGS, similar=1.0).retained(model, REQUEST).prompts
    assert patch.texts["keep"] == (*REQUEST.keep, *made)
    assert patch.texts == recipe.used_texts(model, REQUEST)
    assert card.kept == (), "the card has their hash alone"
    assert set(card.left_out) == {"old church", "churches"}
    assert Recipe.build(card.settings) == recipe
    few = recipe.override({"keep.source.trajectories": 4})
    trained_on = (*REQUEST.keep, "a photo of a dog", "a photo of a knife")
    assert few(model, REQUEST).texts["keep"] == trained_on, "what is trained on, no more"
    assert few.keeping(model, REQUEST).request.keep[0] == REQUEST.keep[0]
    without = recipe.override({"keep": None})(model, REQUEST)
    assert without.texts["keep"] == (), "nothing is held on to, so the request's own prompts are not either"
    assert without.card.left_out == {}


@pytest.mark.slow
def test_things_of_the_concepts_kind_get_more_prompts_and_some_prompts_show_two_things() -> None:
    import expunge

    model = expunge.load("embedded", device="cpu")
    request = emoji_world().prompts.request("church")
    few, more = (Retain(each=1, near=near, pairs=pairs).retained(model, request).prompts
                 for near, pairs in ((0, 0), (3, 4)))
    assert [text for text in more if text in few] == list(few)
    assert len(more) == len(few) + 3 * 3 + 4  # house, castle, hospital
    pairs = more[-4:]
    assert all(" and a" in text for text in pairs)
    assert all(any(near in text for near in ("house", "castle", "hospital")) for text in pairs)


def test_in_a_world_without_kinds_the_closest_things_count_as_near(model: Any) -> None:
    found = Retain(things=THINGS, similar=1.0, near=1, pairs=2).retained(model, REQUEST)
    assert found.prompts == Retain(things=THINGS, similar=1.0).retained(model, REQUEST).prompts, "one prompt a thing"


def test_a_vocabulary_of_which_nothing_is_left_is_told_before_anything_is_computed(model: Any) -> None:
    recipe = Recipe(keep=MatchTeacher(), retain=Retain(things=("church", "churches")))
    with pytest.raises(UserError, match="nothing is left to keep"):
        recipe.check(model, REQUEST)
    long = Recipe(keep=MatchTeacher(), retain=Retain(things=("a house by the sea and a castle and a hospital " * 2,)))
    with pytest.raises(UserError, match="tokens"):
        long.check(model, REQUEST)


def test_rounds_take_every_prompt_once(model: Any) -> None:
    from expunge.unlearn.context import TrainContext

    prompts = ("a dog", "a castle", "a knife", "a church", "a house")
    for fresh in (False, True):
        context = TrainContext(model, model.frozen_copy(), REQUEST, 0)
        source = FrozenTrajectory(grid=2, trajectories=5, guidance=1.0, fresh=fresh, rounds=True)
        stream = source.open(context, prompts, 3, "keep")
        drawn = [prompt for number in range(5) for prompt in stream.draw(number).prompts]
        rounds = [drawn[n:n + 5] for n in (0, 5, 10)]
        assert all(sorted(one) == sorted(prompts) for one in rounds)
        assert len({tuple(one) for one in rounds}) > 1
        assert stream.draw(3).prompts == tuple(drawn[9:12])


def test_a_made_prompt_that_the_encoder_cuts_off_is_left_out_and_told(model: Any) -> None:
    long = Request(concept="church", prompts=("a church on a hill by the sea",))
    found = Retain(things=("dog", *KEPT_THINGS[:9]), similar=1.0, beside=3).retained(model, long)
    cut = [text for text, reason in found.left_out.items() if "longer than" in reason]
    assert cut
    for text in found.request.prompts:
        model.encode([text])
