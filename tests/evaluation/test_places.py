"""Every item that an evaluation draws has a place, those of a way of asking with few wordings, too."""

from __future__ import annotations

from typing import Any

from colour_world import SMALL, colour_world, edit

from expunge.evaluation import EvaluateSettings, evaluate, places_of, planned_prompts
from expunge.evaluation.plan import planned_items
from expunge.metrics.worlds import world_of
from expunge.records import ItemKey


def test_all_planned_items_have_a_place(model: Any) -> None:
    found = evaluate(model, edit(model, 0.5), settings=SMALL, world=colour_world(0.0))
    settings = EvaluateSettings()
    asks = world_of("emoji", "embedded").prompts
    prompts = planned_prompts(asks, asks.request("church"), settings)
    items = [ItemKey(prompt.text, seed) for prompt, seed in planned_items(prompts, settings)]
    seeds = {text: sum(item.text == text for item in items) for text, _ in items}
    assert max(seeds.values()) > settings.seeds  # the name alone is drawn more often
    assert set(items) <= set(places_of(found, prompts, settings).values())
