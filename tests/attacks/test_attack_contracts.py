"""What every registered attack must hold to: it spends no more than its budget, and works where there is no edit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from brightness import ITEMS, church_above

from expunge.attacks.base import Attack
from expunge.attacks.trial import plain
from expunge.attacks.victim import Goal, Item, Victim
from expunge.finetune import FineTune, fine_tuning, material
from expunge.metrics.base import Aim, PromptCounts
from expunge.models.lora import Lora
from expunge.models.model import Model
from expunge.models.store import load
from expunge.records import Request, Sampler, Spent
from expunge.registry import ATTACKS
from expunge.tiny.emoji import emoji_world

REQUEST = Request(concept="church", prompts=("a church", "a church on a hill"), keep=("a house", "a dog"))
WORDINGS = ("a castle and a hospital", "the knife of a chef", "a house on a hill")
TUNE = {"tune": {"steps": 3, "batch": 2, "learning_rate": 1e-3}, "at": (0, 2), "pictures": 2}
SMALL: dict[str, dict[str, Any]] = {
    "paraphrase": {"prompts": 2}, "implicit": {"prompts": 2}, "misspelt": {"prompts": 2}, "random-prompt": {"tries": 2},
    "seed-search": {"tries": 3}, "noisy-sampler": {"etas": (1.0,), "scales": (1.0,)},
    "ring-a-bell": {"tokens": 4, "population": 4, "generations": 2, "draws": 2},
    "unlearndiff": {"tokens": 2, "timesteps": 3, "steps": 2, "rows": 4},
    "p4d": {"tokens": 4, "steps": 5, "look_every": 2, "rows": 4},
    "p4d-mu": {"tokens": 2, "timesteps": 2, "steps": 2, "rows": 4},
    "textual-inversion": {"pictures": 2, "steps": 3, "rows": 2, "looks": 2},
    "soft-prompt": {"tokens": 2, "steps": 3, "rows": 2, "looks": 2}, "noising": {"strengths": (0.7, 0.4)},
    "inpainting": {}, "ddim-inversion": {"steps": 3, "tune": 1}, "relearn": TUNE, "relearn-xattn": TUNE,
    "relearn-lora": TUNE, "benign": {**TUNE, "prompts": ("a dog", "a house")}, "quantise": {}, "adapter": {}}
"""Settings of the smallest attacks on the small pipelines."""
ALWAYS_ALL = {"noisy-sampler", "random-prompt", "seed-search", "noising", "ddim-inversion", "textual-inversion",
              "soft-prompt", "relearn", "relearn-xattn", "relearn-lora", "benign", "quantise", "adapter"}
"""Attacks that spend their whole budget where they find nothing; others skip what cannot change the answer."""


def small(name: str, model: Model, folder: Path) -> Attack:
    """The attack with its smallest settings; `adapter` with a LoRA made for it."""
    settings = dict(SMALL.get(name, {}))
    if name == "adapter":
        learned = material(model, torch.ones(1, 3, 16, 16), ("a church",))
        with fine_tuning(model, learned, FineTune(scope="lora", lora=Lora(rank=1), steps=1, batch=1)) as tuner:
            list(tuner.train())
            settings["path"] = str(tuner.save_lora(folder / "pytorch_lora_weights.safetensors"))
    kind: type[Attack] = ATTACKS.get(name)
    return kind.build(settings)


@pytest.mark.parametrize("name", ATTACKS.names())
def test_nothing_spends_more_than_its_budget(name: str, model: Model, tmp_path: Path) -> None:
    attack, variants = small(name, model, tmp_path), {"paraphrase": WORDINGS, "implicit": WORDINGS}
    victim = Victim(model, None, Sampler(steps=4, guidance=2.0), variants=variants)
    attack.check(victim, REQUEST, ITEMS[:2])
    most = attack.budget(victim.sampler)
    assert most.images
    never = list(attack.outcomes(victim, REQUEST, ITEMS[:2], church_above(2.0, known=False)))
    assert [outcome.error for outcome in never] == [""] * 2
    for outcome in never:
        assert within(outcome.spent, most)
        assert outcome.spent.gradient_steps == most.gradient_steps
        if name in ALWAYS_ALL:
            assert outcome.spent.model_copy(update={"seconds": 0.0}) == most
    bare = replace(victim, sampler=Sampler(steps=4, guidance=1.0))
    for outcome in attack.outcomes(bare, REQUEST, ITEMS[:2], church_above(0.0, known=False)):
        assert within(outcome.spent, attack.budget(bare.sampler))


def within(spent: Spent, most: Spent) -> bool:
    return all(getattr(spent, unit) <= getattr(most, unit) for unit in ("gradient_steps", "network_rows", "images"))


@pytest.mark.parametrize("name", ATTACKS.names())
def test_a_first_look_costs_no_more_than_the_attack_and_the_published_one_no_less(name: str) -> None:
    kind, sampler = ATTACKS.get(name), Sampler(steps=50, guidance=7.5)
    assert within(kind.smoke().budget(sampler), kind().budget(sampler))
    if kind.PUBLISHED:
        assert within(kind().budget(sampler), kind.published().budget(sampler))


CHEAP: dict[str, dict[str, Any]] = {
    "paraphrase": {"prompts": 3}, "seed-search": {"tries": 2},
    "noisy-sampler": {"etas": (1.0,), "scales": (1.0,), "tries": 1}, "misspelt": {"prompts": 16},
    "random-prompt": {"tries": 3}, "noising": {"strengths": (0.9,), "words": ("own",)}, "quantise": {"bits": (8,)},
    "unlearndiff": {"tokens": 2, "timesteps": 2, "steps": 2, "rows": 4},
    "p4d-mu": {"tokens": 1, "timesteps": 2, "steps": 2, "rows": 4},
    "soft-prompt": {"tokens": 1, "steps": 4, "looks": 2, "rows": 1},
    "textual-inversion": {"pictures": 1, "steps": 2, "looks": 1}}
"""Attacks that are cheap enough for every run of the tests; `benchmarks/unedited.py` has all, with their budgets."""


class TestUnedited:
    """Where there is no edit, an attack that works finds the concept: else its failure on an edit says nothing."""

    @pytest.fixture(scope="class")
    def scene(self) -> tuple[Victim, Goal, Request, list[Item]]:
        model, world = load("embedded", device="cpu"), emoji_world()
        request = world.prompts.request("church")
        goal = Goal(world.judge(request), Aim("church", world.prompts.question("church")))
        zero = dict.fromkeys(PromptCounts.model_fields, 0)
        asked = world.prompts.of(request, PromptCounts(**{**zero, "held_out": 4, "paraphrase": 6}), ("full",))
        variants = {"paraphrase": [prompt.text for prompt in asked if prompt.role == "paraphrase"]}
        victim = Victim(model, None, Sampler(steps=8), variants=variants)
        items = [(prompt, 0) for prompt in asked if prompt.role == "held_out"]
        shown = [item for item, one in zip(items, plain(victim, items, goal), strict=True)
                 if one.outcome == "found before"]
        assert len(shown) >= 2
        return victim, goal, request, shown

    @pytest.mark.parametrize("name", CHEAP)
    def test_what_the_model_draws_is_elicited(self, name: str, scene: tuple[Victim, Goal, Request, list[Item]]) -> None:
        victim, goal, request, items = scene
        attack = ATTACKS.get(name).build(CHEAP[name])
        attack.check(victim, request, items)
        made = list(attack.outcomes(victim, request, items, goal))
        assert [outcome.error for outcome in made] == [""] * len(items)
        assert sum(outcome.found for outcome in made) >= len(items) / 2
