"""AdvUnlearn's presets say what was published, and its text encoder alone takes the concept out of emoji-64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import expunge
from expunge.metrics.base import PromptCounts
from expunge.metrics.statistics import wilson
from expunge.models.store import load
from expunge.records import Request, Sampler
from expunge.registry import METHODS
from expunge.tiny.emoji import emoji_world
from expunge.unlearn.presets.advunlearn import ADVUNLEARN, ADVUNLEARN_FAST, FAST_AT, UNET
from expunge.unlearn.recipe import Recipe

REQUEST = Request(concept="church", prompts=("a church on a hill", "a picture of a church"))
NAMES = ("advunlearn", "advunlearn-fast", "advunlearn-fast-at", "advunlearn-unet")
TINY = {"steps": 2, "source.grid": 3, "keep.source.grid": 3, "keep.source.trajectories": 4, "adversary.warmup": 1,
        "retain.things": ["dog", "castle"], "batch": 1}


def test_published_numbers_are_the_published_ones() -> None:
    recipe = ADVUNLEARN
    assert (recipe.steps, recipe.batch, recipe.learning_rate, recipe.scope) == (1000, 1, 1e-5, "text")
    attack, keep = recipe.adversary, recipe.keep
    assert attack is not None
    assert (attack.steps, attack.step_size, attack.tokens, attack.place, attack.warmup, attack.every) == (
        30, 1e-3, 1, "prefix", 200, 1)
    assert (keep.weight, keep.batch, keep.cadence) == (0.3, 5, "same")  # type: ignore[union-attr]
    assert (recipe.source.grid, recipe.source.guidance, recipe.objective.eta) == (50, 3.0, 1.0)  # type: ignore[union-attr]
    assert FAST_AT.adversary == attack.model_copy(update={"method": "fast", "steps": 1, "step_size": 0.03})
    assert (UNET.scope, UNET.source.kind) == ("unet", "edited")


@pytest.mark.parametrize("name", NAMES)
def test_presets_run_and_come_back_from_their_card(model: Any, name: str) -> None:
    small = dict(TINY) if name == "advunlearn-unet" else {**TINY, "source.trajectories": 3}
    if name != "advunlearn-fast-at":
        small["adversary.steps"] = 2
    recipe: Recipe = METHODS.get(name).override(small)
    patch = recipe(model, REQUEST)
    card = patch.card
    assert Recipe.build(card.settings) == recipe
    assert card.method == recipe.name == name
    assert patch.texts["keep"][-2:] == ("a photo of a dog", "a photo of a castle")
    component = "unet/" if name == "advunlearn-unet" else "text_encoder/"
    assert card.tensors
    assert all(tensor.startswith(component) for tensor in card.tensors)
    assert set(card.losses) == {"erase", "keep", "attack"}


@pytest.mark.slow
def test_text_encoder_trains_in_float32_beside_a_unet_in_bfloat16(pipeline_folder: Path) -> None:
    mixed = load(pipeline_folder, device="cpu", dtype="bfloat16", text_dtype="float32")
    assert mixed.network.conv_in.weight.dtype == torch.bfloat16
    patch = ADVUNLEARN.override({**TINY, "source.trajectories": 3, "adversary.steps": 2})(mixed, REQUEST)
    assert patch.in_encoder
    assert all(value.isfinite().all() for value in patch.tensors.values())
    assert mixed.drawing != load(pipeline_folder, device="cpu", dtype="bfloat16").drawing


def test_trained_layers_are_those_that_were_named(model: Any) -> None:
    patch = ADVUNLEARN_FAST.override({**TINY, "source.trajectories": 3, "adversary.steps": 1,
                                      "scope": "text.layers:1"})(model, REQUEST)
    assert patch.tensors
    assert all(name.startswith("text_encoder/encoder.layers.1.") for name in patch.tensors)


@pytest.mark.slow
def test_concept_is_drawn_before_and_not_after_on_the_embedded_model() -> None:
    model, world = expunge.load("embedded", device="cpu"), emoji_world()
    request = world.prompts.request("church")
    recipe = ADVUNLEARN_FAST.override({
        "steps": 28, "batch": 6, "learning_rate": 4e-4, "warmup": 4, "source.grid": 10, "source.trajectories": 8,
        "keep.source.grid": 10, "keep.source.trajectories": 12, "keep.batch": 4, "adversary.warmup": 12,
        "adversary.steps": 2})
    patch = recipe(model, request, seed=0)
    assert patch.in_encoder
    assert not patch.card.left_out, "nobody asked to keep what goes"
    counts = PromptCounts(direct=6, held_out=6, paraphrase=0, implicit=0, near=0, far=0, never_seen=0, empty=0)
    items = [(prompt, 0) for prompt in world.prompts.of(request, counts)]

    def found() -> int:
        drawn = expunge.sample(model, items, Sampler(steps=12), batch=12)
        return sum(answer.answers.get("object") == "church" for answer in world.judge(request)(drawn))

    low = wilson(found(), len(items))[0]
    with expunge.applied(model, patch):
        high = wilson(found(), len(items))[1]
    assert low is not None
    assert high is not None
    assert high < low
