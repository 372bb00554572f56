"""The stochastic sampler, against diffusers' own step and against the deterministic one."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DDIMScheduler

from expunge.attacks.noisy_sampler import NoisySampler
from expunge.attacks.victim import Victim
from expunge.models.denoising import against, denoise, sigma_of
from expunge.records import Prompt, Sampler

ITEMS = [(Prompt(text="a church", role="direct"), 3), (Prompt(text="a dog on a hill", role="direct"), 4)]


def test_the_spread_is_ddims() -> None:
    """sigma = eta sqrt((1 - abar') / (1 - abar)) sqrt(1 - abar / abar'), as diffusers has it."""
    scheduler = DDIMScheduler(num_train_timesteps=1000, beta_schedule="scaled_linear")
    scheduler.set_timesteps(20)
    for t, before in zip(scheduler.timesteps[:-1], scheduler.timesteps[1:], strict=True):
        abar, after = (scheduler.alphas_cumprod[int(one)] for one in (t, before))
        levels = [(value.sqrt(), (1 - value).sqrt()) for value in (abar, after)]
        wanted = scheduler._get_variance(int(t), int(before)) ** 0.5
        torch.testing.assert_close(sigma_of(1.0, *levels), wanted, rtol=1e-3, atol=1e-6)
        assert float(sigma_of(9.0, *levels)) <= float(levels[1][1])


def test_no_step_keeps_noise_at_the_clean_end() -> None:
    here, clean = (torch.tensor(0.8), torch.tensor(0.6)), (torch.tensor(1.0), torch.tensor(0.0))
    assert float(sigma_of(1.85, here, clean)) == 0


def test_without_noise_it_is_the_deterministic_sampler(model: Any) -> None:
    victim = Victim(model, None, Sampler(steps=4, guidance=2.0))
    attack = NoisySampler.build({"etas": (1e-9,), "scales": (1.0,)})
    with torch.no_grad():
        got = attack._latents(victim, ITEMS[:1], 1e-9, 1.0, 0)
        from expunge.attacks.base import item_generator, item_noise

        noise = item_noise([item_generator(attack, ITEMS[0], "eta 1e-09 scale 1.0 try 0")], got.shape[1:])
        wanted = denoise(model, noise, model.encode(["a church"]), against(model, 2.0), 4, 2.0)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


def test_an_items_noise_is_its_own_whatever_stands_beside_it(model: Any) -> None:
    victim, attack = Victim(model, None, Sampler(steps=3, guidance=2.0)), NoisySampler()
    both, alone = (attack._latents(victim, items, 1.28, 1.02, 1) for items in (ITEMS, ITEMS[1:]))
    torch.testing.assert_close(both[1:], alone, rtol=1e-4, atol=1e-4)
    again = attack._latents(victim, ITEMS[1:], 1.28, 1.02, 0)
    assert not torch.allclose(alone, again)
