"""What all white-box prompt attacks must hold to: independence, strictness, counting, leaving the model alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from expunge.attacks.base import Attack
from expunge.attacks.gradient import prompt_gradient
from expunge.attacks.p4d import P4D, P4DMu
from expunge.attacks.proposal import Outcome
from expunge.attacks.unlearndiff import UnlearnDiff
from expunge.attacks.victim import Goal, Item, Victim
from expunge.errors import UserError
from expunge.metrics.base import Aim
from expunge.models.free_places import FreePlaces, Layout
from expunge.models.model import applied
from expunge.models.patch import Patch
from expunge.records import Prompt, Request

ATTACKS: list[Any] = [
    UnlearnDiff(tokens=2, timesteps=3, steps=2, rows=2),
    UnlearnDiff(tokens=2, timesteps=2, steps=3, rows=4, slot="spread", vocabulary="whole"),
    P4D(tokens=4, steps=5, look_every=2, rows=2),
    P4D(form="k", steps=4, look_every=2, rows=2),
    P4DMu(tokens=2, timesteps=2, steps=2, rows=2),
]
IDS = ["unlearndiff", "unlearndiff-whole", "p4d-n", "p4d-k", "p4d-mu"]
every_attack = pytest.mark.parametrize("attack", ATTACKS, ids=IDS)


def settled(attack: Attack, victim: Victim, request: Request, items: Sequence[Item], goal: Goal
            ) -> dict[tuple[str, int], tuple[Any, ...]]:
    """What must not depend on the batch, by item."""
    out = {}
    for outcome in attack.outcomes(victim, request, items, goal):
        spent = outcome.spent.model_dump(exclude={"seconds"})
        prompt, seed = items[outcome.row]
        out[prompt.text, seed] = (outcome.found, outcome.text, outcome.ids, outcome.note, outcome.error, spent)
    assert len(out) == len(items)
    return out


def outcomes(attack: Attack, victim: Victim, request: Request, items: Sequence[Item], goal: Goal) -> list[Outcome]:
    return sorted(attack.outcomes(victim, request, items, goal), key=lambda outcome: outcome.row)


def state(model: Any) -> dict[str, torch.Tensor]:
    parts = {"unet": model.network, "text_encoder": model.texts[0].module, "vae": model.components["vae"]}
    return {f"{part}/{name}": value.clone() for part, module in parts.items()
            for name, value in module.state_dict().items()}


@every_attack
def test_outcomes_depend_neither_on_batch_nor_on_order(attack: Attack, victim: Victim, request_: Request,
                                                       items: list[Item], goal: Goal) -> None:
    items = items[1:4]
    whole = settled(attack, victim, request_, items, goal)
    assert all(error == "" for *_, error, _ in whole.values())
    other = attack.model_copy(update={"batch": 2})  # one full batch, and one item alone
    assert settled(other, victim, request_, items[::-1], goal) == whole


@every_attack
def test_the_model_is_left_as_it_was(attack: Attack, victim: Victim, request_: Request, items: list[Item], goal: Goal
                                     ) -> None:
    model = victim.model
    name = next(name for name in model.parameters_in("xattn") if name.endswith("to_k.weight"))
    changed = model.parameters_in("xattn")[name].detach() + 0.5
    patch = Patch.of({name: changed}, model=model, request=request_, method="test", settings={}, seed=0)
    with applied(model, patch):
        before, was_on = state(model), model.patch_hash
        made = outcomes(attack, replace(victim, patch=patch), request_, items[:1], goal)
        assert [outcome.error for outcome in made] == [""]
        assert model.patch_hash == was_on
        after = state(model)
    assert all(torch.equal(after[key], value) for key, value in before.items())
    for part in (model.network, model.texts[0].module, model.components["vae"]):
        assert not any(p.requires_grad or p.grad is not None for p in part.parameters())
    assert not model.texts[0].module.get_input_embeddings()._forward_hooks


@every_attack
def test_what_is_found_is_what_the_string_draws(attack: Attack, victim: Victim, request_: Request, items: list[Item],
                                                goal: Goal) -> None:
    items, dark = items[:2], replace(goal, aim=Aim("dark", "light"))
    made = [*outcomes(attack, victim, request_, items, goal), *outcomes(attack, victim, request_, items, dark)]
    found = [outcome for outcome in made if outcome.found]
    assert found
    for outcome in found:
        seed = items[outcome.row][1]
        assert outcome.text == victim.model.texts[0].text_of(outcome.ids)  # decoded; drawn below as it is read again
        assert outcome.again is not None
        torch.testing.assert_close(outcome.picture, victim.draw([outcome.text], [seed])[0], atol=1e-4, rtol=0)
        torch.testing.assert_close(outcome.again([seed])[0], outcome.picture, atol=1e-4, rtol=0)
        if attack.model_dump().get("vocabulary") == "plain" and getattr(attack, "slot", "") == "prefix":
            own = victim.model.texts[0].tokens(items[outcome.row][0].text)
            assert outcome.ids[-len(own):] == tuple(own)
            assert set(outcome.ids[:-len(own)]) <= set(victim.model.texts[0].plain.tolist())


@every_attack
def test_all_is_counted_and_within_the_budget(attack: Attack, victim: Victim, request_: Request, items: list[Item],
                                              goal: Goal) -> None:
    never, most = replace(goal, aim=Aim("brighter still", "light")), attack.budget(victim.sampler)
    never = replace(never, known=False)  # aims at whatever the original model draws
    for outcome in outcomes(attack, victim, request_, items[:2], never):
        spent = outcome.spent
        assert not outcome.found
        assert spent.gradient_steps == most.gradient_steps
        assert 1 <= spent.images <= most.images
        assert spent.network_rows == most.network_rows - (most.images - spent.images) * victim.rows_per_picture


def test_drawing_what_is_known_changes_no_answer(victim: Victim, request_: Request, items: list[Item], goal: Goal
                                                 ) -> None:
    attack = P4DMu(tokens=1, timesteps=3, steps=1, rows=2, learning_rate=1e-9)  # tokens that do not move
    never = replace(goal, aim=Aim("brighter still", "light"), known=False)
    for aim, most in ((goal, None), (never, 3)):
        lean = outcomes(attack, victim, request_, items[:2], aim)
        full = outcomes(attack.model_copy(update={"draw_all": True}), victim, request_, items[:2], aim)
        assert [(one.found, one.text) for one in lean] == [(one.found, one.text) for one in full]
        assert [one.spent.images for one in lean] == [1, 1]
        assert most is None or [one.spent.images for one in full] == [most, most]


def test_the_gradient_is_the_slope_of_each_rows_own_loss(victim: Victim) -> None:
    model, chain = victim.model, torch.Generator().manual_seed(3)
    rows = [[5, 6, 7, 8], [9, 10, 11]]
    x_t, wanted = torch.randn(2, 4, 8, 8, generator=chain), torch.randn(2, 4, 8, 8, generator=chain)
    t, texts, free = torch.tensor([100, 700]), ["", ""], [(1, 2), (0,)]
    layouts = [Layout(tuple(row), places) for row, places in zip(rows, free, strict=True)]
    points = model.texts[0].table[torch.tensor([20, 21, 22])]
    places = FreePlaces.of(model, texts, layouts)
    losses, gradient = prompt_gradient(model, places, points, x_t, t, wanted)
    assert (gradient.norm(dim=1) > 0).all()
    step = 1e-2 / gradient.norm()
    moved, _ = prompt_gradient(model, places, points + step * gradient, x_t, t, wanted)
    slope = float((moved - losses).sum() / step)
    assert slope == pytest.approx(float(gradient.square().sum()), rel=0.1)
    last = FreePlaces.of(model, texts[1:], layouts[1:])
    alone = prompt_gradient(model, last, points[2:], x_t[1:], t[1:], wanted[1:])[1]
    torch.testing.assert_close(alone, gradient[2:], atol=1e-7, rtol=1e-3)


def test_deaf_networks_are_reported(victim: Victim, request_: Request, items: list[Item], goal: Goal) -> None:
    with torch.no_grad():
        for name, parameter in victim.model.parameters_in("xattn").items():
            if "to_v" in name:
                parameter.zero_()
    [outcome] = outcomes(ATTACKS[0], victim, request_, items[:1], replace(goal, aim=Aim("none", "light"), known=False))
    assert outcome.note.startswith("zero gradient")


@every_attack
def test_what_cannot_be_attacked_says_so(attack: Attack, victim: Victim, request_: Request, items: list[Item],
                                         goal: Goal) -> None:
    unseen = outcomes(attack, victim, request_, items[:2], replace(goal, aim=Aim("brighter still", "light")))
    assert [outcome.error for outcome in unseen] == ["no image of 'brighter still' to aim at"] * 2

    class Blind:
        name, questions = goal.judge.name, goal.judge.questions

        def __call__(self, pictures: torch.Tensor) -> list[Any]:
            return list(goal.judge(torch.zeros_like(pictures)))

    own = replace(victim, pictures=torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    for outcome in outcomes(attack, own, request_, items[:2], replace(goal, judge=Blind())):
        assert (outcome.found, outcome.error) == (False, "an image of one colour")
    attack.check(own, request_, items)
    with pytest.raises(UserError, match="target images of shape"):
        attack.check(replace(victim, pictures=torch.rand(0, 3, 16, 16)), request_, items)
    if not (isinstance(attack, P4D) and attack.form == "n"):  # which takes the prompt away
        long = " ".join(["church"] * (victim.model.texts[0].room))
        with pytest.raises(UserError, match="insert fewer tokens"):
            attack.check(victim, request_, [(Prompt(text=long, role="direct"), 0)])
        attack.check(victim, request_, [*items, (Prompt(text=long, role="direct"), 0)])
