"""UnlearnDiffAtk: its schedule, its target, its published choices, and that it finds what it aims at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from expunge.attacks.gradient import prompt_gradient
from expunge.attacks.unlearndiff import LONGEST, UnlearnDiff
from expunge.attacks.victim import Goal, Item, Victim
from expunge.errors import UserError
from expunge.metrics.base import Aim, PromptCounts
from expunge.models.free_places import FreePlaces, Layout
from expunge.records import Prompt, Request, Sampler, Spent


def test_times_are_the_published_ones(model: Any) -> None:
    clock, schedule = torch.Generator(), model.process.schedule
    published, few = UnlearnDiff.published(), UnlearnDiff(timesteps=4)
    assert [published._time(schedule, number, clock) for number in range(50)] == list(range(10, 1000, 20))
    assert [few._time(schedule, number, clock) for number in range(4)] == [125, 375, 625, 875]


def test_budgets() -> None:
    published = UnlearnDiff.published(tokens=5)
    assert published.tokens == 5
    sampler = Sampler(steps=50, guidance=7.5)
    assert published.budget(sampler) == Spent(gradient_steps=2000, network_rows=6000 + 50 * 100, images=50)
    assert UnlearnDiff.smoke().budget(sampler).gradient_steps < UnlearnDiff().budget(sampler).gradient_steps < 2000


def prompt_losses(model: Any, prompts: Sequence[Sequence[int]], x0: torch.Tensor, count: int = 32) -> torch.Tensor:
    """(N,) each prompt's denoising error, over the same `count` times and noises."""
    chain = torch.Generator().manual_seed(1)
    t = model.process.schedule.draw(count, chain)
    eps, x = torch.randn(count, *x0.shape, generator=chain), x0.expand(count, *x0.shape)
    x_t, wanted = model.process.noised(x, eps, t), model.process.target(x, eps, t)
    losses = []
    for row in prompts:
        layout = Layout(tuple(row), (0,))
        places = FreePlaces.of(model, [""] * count, [layout] + [layout.closed] * (count - 1))
        losses.append(prompt_gradient(model, places, model.texts[0].table[[row[0]]], x_t, t, wanted)[0].mean())
    return torch.stack(losses)


@pytest.mark.parametrize("kind", ["model", "v_model"])
def test_the_attacked_loss_falls(kind: str, request: pytest.FixtureRequest, request_: Request, goal: Goal) -> None:
    model = request.getfixturevalue(kind)
    pictures = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    victim, text = Victim(model, None, Sampler(steps=2, guidance=1.0), pictures), "a picture of a dog"
    attack = UnlearnDiff(tokens=2, timesteps=2, steps=40, rows=1)
    [outcome] = attack.outcomes(victim, request_, [(Prompt(text=text, role="direct"), 0)],
                                replace(goal, aim=Aim("brighter still", "light")))
    assert outcome.error == ""
    words, own, chain = model.texts[0].plain, model.texts[0].tokens(text), torch.Generator().manual_seed(2)
    others = [[*words[torch.randint(len(words), (2,), generator=chain)].tolist(), *own] for _ in range(8)]
    losses = prompt_losses(model, [list(outcome.ids), *others], model.encode_pixels(pictures)[0])
    print("found", losses[0], "random", losses[1:].sort().values)
    assert losses[0] < losses[1:].median()


def test_long_prompts_are_refused_or_left_out_as_published(victim: Victim, request_: Request, items: list[Item],
                                                           goal: Goal) -> None:
    long = (Prompt(text=" ".join(["church"] * (LONGEST - 1)), role="direct"), 0)
    with pytest.raises(UserError, match="shorten the prompt"):
        UnlearnDiff().check(victim, request_, [long])
    UnlearnDiff().check(victim, request_, [*items, long])
    legacy = UnlearnDiff(tokens=1, timesteps=1, steps=1, rows=1, legacy_length=True)
    legacy.check(victim, request_, [*items, long])
    made = {outcome.row: outcome for outcome in legacy.outcomes(victim, request_, [items[0], long], goal)}
    assert made[1].note == f"not attacked: {LONGEST + 1} tokens, more than the {LONGEST} of the published runs"
    assert not made[1].found
    assert made[1].spent.gradient_steps == 0
    assert made[0].spent.gradient_steps == 1


def test_it_finds_what_the_embedded_model_knows() -> None:
    """The model is unedited and the prompts name the concept, so the attack's own strings must show it too."""
    from expunge.models.store import load
    from expunge.tiny.emoji import emoji_world

    model, world = load("embedded"), emoji_world()
    request = world.prompts.request("church")
    none = dict.fromkeys(PromptCounts.model_fields, 0)
    asked = world.prompts.of(request, PromptCounts(**{**none, "direct": 2}))
    victim = Victim(model, None, Sampler(steps=10))
    goal = Goal(world.judge(request), Aim("church", world.prompts.question("church")))
    attack = UnlearnDiff(tokens=2, timesteps=2, steps=4, rows=2)
    made = list(attack.outcomes(victim, request, [(prompt, seed) for prompt in asked for seed in (0,)], goal))
    assert any(outcome.found for outcome in made)
    assert all(outcome.found or not outcome.error for outcome in made)
