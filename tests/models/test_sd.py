"""The wrapped pipeline draws what diffusers draws, and keeps its promises at the border."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

from expunge.errors import ModelError, UserError
from expunge.models.denoising import denoise
from expunge.models.model import Model
from expunge.models.sd import StableDiffusion


def reference(folder: Path, latents: torch.Tensor, prompts: list[str], steps: int, guidance: float,
              **kwargs: Any) -> torch.Tensor:
    """What diffusers draws, (B, 3, H, W) in [0, 1]."""
    pipe = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return pipe(prompts, latents=latents, num_inference_steps=steps, guidance_scale=guidance,
                output_type="pt", **kwargs).images


@pytest.mark.parametrize("which", ["pipeline_folder", "v_pipeline_folder"])
@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_draws_what_diffusers_draws(which: str, guidance: float, request: pytest.FixtureRequest) -> None:
    from expunge.models.store import load

    folder = request.getfixturevalue(which)
    model, prompts, steps = load(folder, device="cpu"), ["a church", "a dog on a hill"], 5
    x = model.initial_noise([3, 4])
    ours = model.decode(denoise(model, x, model.encode(prompts), model.encode([""]), steps, guidance))
    theirs = reference(folder, x, prompts, steps, guidance)
    assert ours.std() > 0.01
    assert not torch.allclose(ours[0], ours[1], atol=1e-2)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_negative_prompt_takes_the_unconditional_place(model: Any, pipeline_folder: Path) -> None:
    x = model.initial_noise([3])
    ours = model.decode(denoise(model, x, model.encode(["a church"]), model.encode(["a dog"]), 4, 6.0))
    theirs = reference(pipeline_folder, x, ["a church"], 4, 6.0, negative_prompt=["a dog"])
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


@pytest.mark.parametrize("which", ["model", "v_model"])
def test_stops_exactly_at_the_grid_points_noise_level(which: str, request: pytest.FixtureRequest) -> None:
    """A network that knows the noise stays on sqrt(abar) x0 + sqrt(1 - abar) e; 7 does not divide the grid."""
    model = request.getfixturevalue(which)
    generator = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, 2, *model.latent_shape, generator=generator)
    t = model.process.schedule.grid(7)
    at = lambda k: model.process.noised(x0, eps, t[k].repeat(2))

    def oracle(x_t: torch.Tensor, time: torch.Tensor, cond: object) -> torch.Tensor:
        if model.process.prediction == "epsilon":
            return eps
        return model.process.noised(eps, -x0, time.repeat(2))  # v = sqrt(abar) e - sqrt(1 - abar) x0

    model.predict = oracle
    cond = model.encode(["a church", "a dog"])
    for start, stop in ((0, 0), (0, 1), (0, 3), (0, 6), (2, 5)):
        found = denoise(model, at(start), cond, None, 7, 1.0, start=start, stop=stop)
        torch.testing.assert_close(found, at(stop), atol=1e-4, rtol=0)
    if which == "v_model":
        torch.testing.assert_close(denoise(model, at(0), cond, None, 7, 1.0), x0, atol=1e-4, rtol=0)
        assert model.process.noised(x0, eps, torch.tensor([999, 999])).equal(eps)


def test_two_halves_make_a_whole(model: Any) -> None:
    cond, uncond, x = model.encode(["a church"]), model.encode([""]), model.initial_noise([0])
    half = denoise(model, x, cond, uncond, 6, 3.0, stop=2)
    assert denoise(model, half, cond, uncond, 6, 3.0, start=2).equal(denoise(model, x, cond, uncond, 6, 3.0))
    assert denoise(model, x, cond, uncond, 6, 3.0, stop=0).equal(x)


@pytest.mark.parametrize(("start", "stop"), [(3, 2), (0, 7), (-1, 3)])
def test_denoising_off_the_grid_is_refused(model: Any, start: int, stop: int) -> None:
    with pytest.raises(UserError, match="grid point"):
        denoise(model, model.initial_noise([0]), model.encode([""]), None, 6, 1.0, start=start, stop=stop)


def test_guidance_without_unconditional_states_is_refused(model: Any) -> None:
    with pytest.raises(UserError, match="without unconditional"):
        denoise(model, model.initial_noise([0]), model.encode(["a"]), None, 4, 2.0)


@pytest.mark.parametrize("steps", [0, 1000, 1001])
def test_impossible_step_counts_are_refused(model: Any, steps: int) -> None:
    """1000 leading steps with offset 1 would ask for time 1000, one more than there is."""
    with pytest.raises(UserError, match="1 to 999"):
        model.process.schedule.grid(steps)


def test_prediction_goes_through_the_unet_untouched(model: Any, pipeline_folder: Path) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(pipeline_folder, safety_checker=None)
    x, t, cond = model.initial_noise([1, 2]), torch.tensor([10, 900]), model.encode(["a church", "a dog"])
    with torch.no_grad():
        expected = pipe.unet(x, t, cond.states).sample
    torch.testing.assert_close(model.predict(x, t, cond), expected)


def test_overlong_prompt_is_refused_with_what_would_be_cut(model: Any) -> None:
    prompt = "a church on a hill by the sea with a dog and a castle and a house and a knife"
    with pytest.raises(UserError, match=r"has \d+ tokens; accepted: up to 14;.*would be cut: '.*knife'"):
        model.encode(["a dog", prompt])
    assert model.encode([prompt], truncate=True).states.shape == (1, 16, 32)


def test_prompt_of_exactly_the_full_length_passes(model: Any) -> None:
    assert model.encode(["a " * 14]).states.shape == (1, 16, 32)
    with pytest.raises(UserError, match="15 tokens"):
        model.encode(["a " * 15])


def test_everything_is_frozen_until_asked_and_then_encode_is_differentiable(model: Any) -> None:
    parts = (model.network, model.texts[0].module, model.components["vae"])
    assert not any(parameter.requires_grad for part in parts for parameter in part.parameters())
    assert not model.encode(["a church"]).states.requires_grad
    for parameter in model.parameters_in("text").values():
        parameter.requires_grad_(True)
    model.encode(["a church"]).states.square().sum().backward()
    grads = [parameter.grad for parameter in model.parameters_in("text").values()]
    assert all(grad is not None for grad in grads)
    assert max(float(grad.abs().max()) for grad in grads) > 0


def test_frozen_copy_stays_when_the_student_moves(model: Any) -> None:
    for parameter in model.parameters_in("all").values():
        parameter.requires_grad_(True)
    teacher = model.frozen_copy()
    cond, x, t = teacher.encode(["a church"]), model.initial_noise([0]), torch.tensor([500])
    before = teacher.predict(x, t, cond)
    with torch.no_grad():
        for parameter in model.parameters_in("all").values():
            parameter.add_(0.01)
    assert not any(p.requires_grad for p in [*teacher.network.parameters(), *teacher.texts[0].module.parameters()])
    assert teacher.predict(x, t, teacher.encode(["a church"])).equal(before)
    assert not torch.allclose(model.predict(x, t, model.encode(["a church"])), before)
    assert teacher.components["vae"] is model.components["vae"]
    assert (teacher.hash, teacher.process.prediction) == (model.hash, model.process.prediction)


def test_initial_noise_belongs_to_its_seed(model: Any) -> None:
    alone = model.initial_noise([7])
    torch.manual_seed(99)
    assert model.initial_noise([1, 7, 2])[1:2].equal(alone)
    assert not model.initial_noise([8]).equal(alone)
    assert model.initial_noise([1, 2], 32, 16).shape == (2, 4, 16, 8)
    with pytest.raises(UserError, match="multiple of 2"):
        model.initial_noise([1], 33)


def test_pixels_go_to_latents_and_back_in_shape_and_scale(model: Any) -> None:
    z = model.encode_pixels(torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    assert z.shape == (2, 4, 8, 8)
    vae = model.components["vae"]
    with torch.no_grad():
        expected = vae.encode(torch.zeros(1, 3, 16, 16)).latent_dist.mean * vae.config.scaling_factor
    torch.testing.assert_close(model.encode_pixels(torch.full((1, 3, 16, 16), 0.5)), expected)
    pixels = model.decode(z)
    assert pixels.shape == (2, 3, 16, 16)
    assert pixels.min() >= 0
    assert pixels.max() <= 1


def test_other_families_are_refused(pipeline_folder: Path) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(pipeline_folder, safety_checker=None)
    with pytest.raises(ModelError, match="UNet2DConditionModel; accepted: StableDiffusionPipeline"):
        Model(StableDiffusion(pipe.unet), "a unet")
    base = pipe.scheduler.config
    pipe.scheduler = DDIMScheduler.from_config(base, prediction_type="sample")
    with pytest.raises(ModelError, match="predicts 'sample'; accepted: epsilon, v_prediction"):
        Model(StableDiffusion(pipe), "a sample predictor")
    pipe.scheduler = DDIMScheduler.from_config(base, rescale_betas_zero_snr=True)
    with pytest.raises(ModelError, match="zero-terminal-SNR schedule with epsilon"):
        Model(StableDiffusion(pipe), "a bad schedule")


def test_hash_sees_every_weight_and_drawing_sees_the_schedule(pipeline_folder: Path, model: Any) -> None:
    pipe = StableDiffusionPipeline.from_pretrained(pipeline_folder, safety_checker=None)
    assert Model(StableDiffusion(pipe), "same").hash == model.hash
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config, timestep_spacing="trailing")
    other = Model(StableDiffusion(pipe), "other schedule")
    assert other.hash == model.hash
    assert other.drawing != model.drawing
    for part in (pipe.unet, pipe.text_encoder, pipe.vae):
        last = list(part.parameters())[-1]
        with torch.no_grad():
            last.view(-1)[-1] += 1e-6
        assert Model(StableDiffusion(pipe), "changed").hash != other.hash
        other = Model(StableDiffusion(pipe), "changed")
