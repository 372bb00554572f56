"""DDIM inversion: exact inverses for both predictions, tuning that helps, counted costs, refusals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from expunge.attacks.ddim import DdimInversion, coefficients, inverted, tuned_states
from expunge.attacks.reference import states_of
from expunge.attacks.victim import Goal, Item, Victim
from expunge.errors import UserError
from expunge.models.denoising import denoise
from expunge.records import Request


@pytest.fixture
def owner(victim: Victim) -> Victim:
    pictures = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return replace(victim, pictures=pictures)


@pytest.fixture(params=["model", "v_model"])
def either(request: pytest.FixtureRequest) -> Any:
    """Epsilon prediction, and v-prediction with zero terminal SNR."""
    return request.getfixturevalue(request.param)


def test_steps_are_the_models_own(either: Any) -> None:
    empty = states_of(either, [""])
    x = either.initial_noise([0, 1])
    pairs, grid = coefficients(either.process, 4), either.process.schedule.grid(4)
    for k in range(3):
        with torch.no_grad():
            mine = pairs[k, 0] * x + pairs[k, 1] * either.predict(x, grid[k], empty.repeat(2))
        x = denoise(either, x, empty.repeat(2), None, 4, 1.0, start=k, stop=k + 1)
        assert torch.allclose(mine, x, atol=1e-5)


@pytest.mark.slow
def test_regeneration_returns_to_the_picture_and_fixed_points_help(either: Any) -> None:
    empty = states_of(either, [""])
    x0 = either.initial_noise([2, 3])

    def off(refine: int) -> float:
        path = inverted(either, x0, empty, 10, refine)
        assert path.shape == (11, *x0.shape)
        assert torch.equal(path[-1], x0)
        assert bool(path.isfinite().all())
        return float((denoise(either, path[0], empty.repeat(2), None, 10, 1.0) - x0).abs().max())

    assert off(16) < 0.05 * off(0)


def test_one_step_from_pure_noise_is_refused(v_model: Any) -> None:
    with pytest.raises(UserError, match="cannot be inverted"):
        coefficients(v_model.process, 1)


@pytest.mark.slow
def test_tuning_comes_nearer_and_its_weight_holds_it_back(either: Any) -> None:
    empty = states_of(either, [""])
    x0 = either.initial_noise([2, 3])
    path = inverted(either, x0, empty, 4, 0)
    plain = float((denoise(either, path[0], empty.repeat(2), None, 4, 1.0) - x0).square().mean())
    loose, far = tuned_states(either, path, empty, DdimInversion(steps=4, tune=8, learning_rate=0.05, weight=0.0))
    _, near = tuned_states(either, path, empty, DdimInversion(steps=4, tune=8, learning_rate=0.05, weight=100.0))
    assert far.shape == (4, 2, *empty.states.shape[1:])
    assert float((loose - x0).square().mean()) < plain
    assert float((near - empty.states).abs().mean()) < float((far - empty.states).abs().mean())
    assert all(parameter.grad is None for parameter in either.network.parameters())


def test_tuned_items_do_not_depend_on_the_batch(either: Any) -> None:
    empty = states_of(either, [""])
    x0 = either.initial_noise([2, 3])
    path = inverted(either, x0, empty, 3, 1)
    settings = DdimInversion(steps=3, tune=3)
    both, alone = tuned_states(either, path, empty, settings)[0], tuned_states(either, path[:, 1:], empty, settings)[0]
    assert torch.allclose(both[1:], alone, atol=1e-3)


def test_costs_are_counted_rung_by_rung(owner: Victim, request_: Request, items: list[Item], goal: Goal) -> None:
    attack = DdimInversion(steps=3, refine=1, fresh=(0.5,), tune=2)
    outcomes = list(attack.outcomes(owner, request_, items, goal))
    assert sorted(outcome.row for outcome in outcomes) == list(range(len(items)))
    for outcome in outcomes:
        first = outcome.note.startswith("found at 0.5")
        assert outcome.spent.network_rows == (9 if first else attack.budget(owner.sampler).network_rows)
        assert outcome.spent.gradient_steps == (0 if first else 6)
        assert outcome.spent.images == (1 if first else 2)


@pytest.mark.parametrize(("fresh", "kept"), [(0.0, {"noise"}), (0.5, {"noise"})])
def test_only_fresh_noise_can_be_drawn_again(owner: Victim, request_: Request, items: list[Item], goal: Goal,
                                             fresh: float, kept: set[str]) -> None:
    easy = replace(goal, judge=type(goal.judge)(-1.0))  # type: ignore[call-arg]
    outcome = next(iter(DdimInversion(steps=3, fresh=(fresh,)).outcomes(owner, request_, items, easy)))
    assert outcome.found
    assert set(outcome.tensors) == kept
    assert (outcome.again is None) == ("deterministic" in outcome.note) == (fresh == 0)
    if outcome.again is not None:
        assert outcome.picture is not None
        same, other = outcome.again([items[outcome.row][1], 99])
        assert torch.allclose(same, outcome.picture, atol=1e-4)
        assert not torch.allclose(other, outcome.picture, atol=1e-3)


def test_outcomes_do_not_depend_on_batch_or_order(owner: Victim, request_: Request, items: list[Item], goal: Goal
                                                  ) -> None:
    def told(attack: DdimInversion, given: list[Item]) -> dict[tuple[str, int], bool]:
        return {(given[o.row][0].text, given[o.row][1]): o.found
                for o in attack.outcomes(owner, request_, given, goal)}

    assert told(DdimInversion(steps=3), items) == told(DdimInversion(steps=3, batch=2), items[::-1])
