"""Processes: what outputs mean, the one step for all of them, times and grids; against diffusers' own schedulers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler

from expunge.errors import ModelError, UserError
from expunge.models.process import PROCESSES, Process, process_of
from expunge.models.schedule import StraightFlow, VariancePreserving

BETAS: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
                         "clip_sample": False}


def ddim(prediction: str) -> DDIMScheduler:
    v = prediction == "v_prediction"
    return DDIMScheduler(**BETAS, prediction_type=prediction, rescale_betas_zero_snr=v, set_alpha_to_one=v,
                         timestep_spacing="trailing" if v else "leading", steps_offset=0 if v else 1)


def process(prediction: str) -> Process:
    if prediction == "velocity":
        return process_of(prediction, StraightFlow(shift=3.0))
    return process_of(prediction, VariancePreserving(ddim(prediction)))


def normal(seed: int) -> torch.Tensor:
    return torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("prediction", PROCESSES)
def test_an_output_says_the_latent_and_the_noise_that_it_was_made_of(prediction: str) -> None:
    mine, x0, eps = process(prediction), normal(0), normal(1)
    t = mine.schedule.evenly(3)
    x_t, out = mine.noised(x0, eps, t), mine.target(x0, eps, t)
    torch.testing.assert_close(mine.clean(out, x_t, t), x0, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(mine.noise_in(out, x_t, t), eps, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("prediction", PROCESSES)
def test_a_step_runs_backwards(prediction: str) -> None:
    mine, x, out = process(prediction), normal(0), normal(1)
    s, r = mine.schedule.grid_levels(8)
    for k in range(8):
        here, there = (s[k], r[k]), (s[k + 1], r[k + 1])
        moved = mine.step(out, x, here, there)
        A, B = mine.affine(here, there)
        torch.testing.assert_close(A * x + B * out, moved, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close((moved - B * out) / A, x, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_steps_are_those_of_ddim(prediction: str) -> None:
    mine, theirs, x = process(prediction), ddim(prediction), normal(2)
    theirs.set_timesteps(10)
    grid = mine.schedule.grid(10)
    assert grid.tolist() == theirs.timesteps.tolist()
    s, r = mine.schedule.grid_levels(10)
    y = x.clone()
    for k, t in enumerate(theirs.timesteps):
        out = (x * 0.3 + normal(5) * 0.1)
        x = mine.step(out, x, (s[k], r[k]), (s[k + 1], r[k + 1]))
        y = theirs.step(out, t, y).prev_sample
        torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-4)


def test_steps_are_those_of_euler_on_a_flow() -> None:
    mine, x = process("velocity"), normal(2)
    theirs = FlowMatchEulerDiscreteScheduler(shift=3.0)
    theirs.set_timesteps(sigmas=torch.linspace(1, 1 / 10, 10).tolist())
    torch.testing.assert_close(mine.schedule.grid(10), theirs.timesteps.float())
    s, r = mine.schedule.grid_levels(10)
    y = x.clone()
    for k, t in enumerate(theirs.timesteps):
        out = x * 0.3 + normal(5) * 0.1
        x = mine.step(out, x, (s[k], r[k]), (s[k + 1], r[k + 1]))
        y = theirs.step(out, t, y).prev_sample
        torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("prediction", PROCESSES)
def test_times_that_training_draws_lie_below_their_quantiles(prediction: str) -> None:
    schedule = process(prediction).schedule
    drawn = schedule.draw(20000, torch.Generator().manual_seed(0))
    assert drawn.dtype == torch.float32
    assert 0 <= float(drawn.min()) <= float(drawn.max()) <= schedule.last
    for u in (0.1, 0.5, 0.9):
        share = float((drawn <= schedule.quantile(torch.tensor([u]))).float().mean())
        assert share == pytest.approx(u, abs=0.015)
    even = schedule.evenly(4)
    assert even.tolist() == sorted(even.tolist())
    for place, t in enumerate(even):
        assert float((drawn <= t).float().mean()) == pytest.approx((place + 0.5) / 4, abs=0.015)


def test_a_flow_is_shifted_towards_noise() -> None:
    plain, shifted = StraightFlow(1.0), StraightFlow(3.0)
    assert bool((shifted.grid(10)[1:] > plain.grid(10)[1:]).all())
    assert float(shifted.quantile(torch.tensor([0.5]))) == pytest.approx(750.0, abs=0.1)
    assert float(plain.quantile(torch.tensor([0.5]))) == pytest.approx(500.0, abs=0.1)
    assert plain.identity != shifted.identity


@pytest.mark.parametrize("name", ["sample", "flow", ""])
def test_another_prediction_is_refused_by_name(name: str) -> None:
    with pytest.raises(ModelError, match=rf"predicts '{name}'.*epsilon, v_prediction, velocity"):
        process_of(name, StraightFlow())


def test_epsilon_of_pure_noise_is_refused() -> None:
    with pytest.raises(ModelError, match="pure noise has no x0"):
        process_of("epsilon", VariancePreserving(ddim("v_prediction")))
    with pytest.raises(ModelError, match="pure noise has no x0"):
        process_of("epsilon", StraightFlow())


@pytest.mark.parametrize(("prediction", "steps"), [("epsilon", 0), ("epsilon", 1001), ("velocity", 0)])
def test_grids_that_are_none_are_refused(prediction: str, steps: int) -> None:
    with pytest.raises(UserError, match=f"{steps} sampling steps"):
        process(prediction).schedule.grid(steps)
