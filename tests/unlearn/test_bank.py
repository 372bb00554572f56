"""The bank of soft prompts: what it learns from the student's forward, whose turn it is; a killed run goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from expunge.errors import UserError
from expunge.records import Request, Target
from expunge.registry import OBJECTIVES
from expunge.unlearn.bank import Bank, BankAdversary
from expunge.unlearn.context import TrainContext
from expunge.unlearn.recipe import Recipe
from expunge.unlearn.source import FrozenTrajectory

REQUEST = Request(concept="church", prompts=("a church on a hill", "a picture of a church"), anchor="house")
TWO = REQUEST.model_copy(update={"also": (Target(concept="dog", prompts=("a picture of a dog",), anchor="cat"),)})
POOL = FrozenTrajectory(grid=4, trajectories=4)
SMALL = Recipe(source=POOL, scope="xattn", steps=6, batch=3, learning_rate=1e-3,
               adversary=BankAdversary(size=4, tokens=2, rows=2, life=2))


def at_work(model: Any, request: Request = REQUEST, batch: int = 4, **settings: Any) -> tuple[Bank, Any]:
    context = TrainContext(model, model.frozen_copy(), request, 0)
    with torch.no_grad():
        for p in model.parameters_in("xattn").values():
            p.mul_(1.3)
    stream = POOL.open(context, request.all_prompts, batch, "erase")
    bank = BankAdversary(**{"size": 6, "tokens": 2, "rows": 3, **settings}).prepare(context, stream, batch)
    return bank, stream  # type: ignore[return-value]


def step(model: Any, bank: Bank, stream: Any, number: int) -> float:
    bank.begin(number)
    points = stream.draw(number)
    out = model.predict(points.x_t, points.t, bank.condition(number, points))
    bank.saw(number, points, out)
    return bank.losses["attack"]


def test_the_step_is_adams_on_the_attacks_loss(model: Any) -> None:
    bank, stream = at_work(model, life=99)
    before = bank.state["adversary/vectors"].clone()
    bank.begin(0)
    points = stream.draw(0)
    taken = bank._chosen(0, points.prompts[:3])
    V = before[taken].clone().requires_grad_(True)
    optimizer = torch.optim.Adam([V], lr=bank.settings.step_size)
    cond = bank._encoded(points.prompts[:3], V)
    wanted = bank._wanted(points)[:3]
    (model.predict(points.x_t[:3], points.t[:3], cond) - wanted).square().flatten(1).mean(1).sum().backward()
    optimizer.step()
    step(model, bank, stream, 0)
    torch.testing.assert_close(bank.state["adversary/vectors"][taken], V.detach(), rtol=1e-3, atol=1e-5)
    others = [m for m in range(6) if m not in taken.tolist()]
    assert torch.equal(bank.state["adversary/vectors"][others], before[others])


@pytest.mark.slow
def test_its_loss_falls_where_the_student_stands_still(model: Any) -> None:
    bank, stream = at_work(model, size=3, rows=3, batch=3, life=999, step_size=0.05)
    losses = [step(model, bank, stream, number) for number in range(60)]
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])


def test_the_first_rows_are_attacked_and_the_others_told_their_prompts(model: Any) -> None:
    bank, stream = at_work(model)
    bank.begin(0)
    points = stream.draw(0)
    states = bank.condition(0, points).states
    assert torch.equal(states[3], points.cond.states[3])
    assert not torch.equal(states[0], points.cond.states[0])


def test_asked_again_within_a_step_it_says_the_same_and_learns_once(model: Any) -> None:
    bank, stream = at_work(model)
    bank.begin(0)
    points = stream.draw(0)
    first = bank.condition(0, points)
    bank.saw(0, points, model.predict(points.x_t, points.t, first))
    learned = bank.state["adversary/vectors"].clone()
    second = bank.condition(0, points)
    bank.saw(0, points, model.predict(points.x_t, points.t, second))
    assert torch.equal(first.states, second.states)
    assert torch.equal(bank.state["adversary/vectors"], learned)


def test_after_its_life_a_soft_prompt_begins_anew(model: Any) -> None:
    bank, stream = at_work(model, size=3, rows=3, life=2, batch=3)
    start = bank.state["adversary/vectors"].clone()
    for number in range(2):
        step(model, bank, stream, number)
    assert bank.state["adversary/turns"].tolist() == [2, 2, 2]
    bank.begin(2)
    assert bank.state["adversary/turns"].tolist() == [0, 0, 0]
    assert bank.state["adversary/lives"].tolist() == [1, 1, 1]
    assert not bank.state["adversary/mean"].any()
    assert not torch.equal(bank.state["adversary/vectors"], start)


def test_vectors_belong_to_a_concept(model: Any) -> None:
    bank, stream = at_work(model, TWO, batch=6, rows=6, size=12)
    for number in range(3):
        prompts = stream.draw(number).prompts
        for prompt, m in zip(prompts, bank._chosen(number, prompts).tolist(), strict=True):
            assert (m >= 6) == ("dog" in prompt)


def test_a_bank_that_is_too_small_and_prompts_without_room_are_refused(model: Any) -> None:
    with pytest.raises(UserError, match="a bank of 2"):
        BankAdversary(size=2, rows=3).check(model, REQUEST)
    with pytest.raises(UserError, match="a bank of 5 for 2 concepts"):
        BankAdversary(size=5, rows=3).check(model, TWO)
    BankAdversary(size=6, rows=3).check(model, TWO)
    with pytest.raises(UserError, match="tokens"):
        BankAdversary(tokens=200).check(model, REQUEST)


def test_a_killed_run_ends_at_the_same_weights(model: Any, tmp_path: Path) -> None:
    def killed(done: int, total: int, losses: Any) -> None:
        if losses and done == 4:
            raise KeyboardInterrupt

    own = SMALL.model_copy(update={"checkpoint_every": 0.0})
    whole = own(model, REQUEST, seed=3)
    with pytest.raises(KeyboardInterrupt):
        own(model, REQUEST, seed=3, checkpoint=tmp_path / "c.safetensors", progress=killed)
    again = own(model, REQUEST, seed=3, checkpoint=tmp_path / "c.safetensors")
    assert {name: value.tolist() for name, value in again.tensors.items()} == \
        {name: value.tolist() for name, value in whole.tensors.items()}
    assert "attack" in again.card.losses


@pytest.mark.parametrize("objective", [name for name in OBJECTIVES.names() if name != "states"])
def test_it_learns_under_every_objective_that_asks_the_denoiser(model: Any, objective: str) -> None:
    recipe = SMALL.override({"objective": objective, "steps": 2, **({"objective.warm_up": 1} if objective == "domain"
                                                                    else {})})
    patch = recipe(model, REQUEST.model_copy(update={"keep": ("a dog",)}), seed=1)
    assert len(patch.card.losses["attack"]) == 2
