"""Every family draws what its diffusers pipeline draws, and keeps the border's promises."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from expunge.errors import ModelError, UserError
from expunge.models.denoising import against, denoise
from expunge.models.families import FAMILIES, family_of
from expunge.models.model import Model
from expunge.models.patch import Patch
from expunge.models.pipeline import load_into_pipeline
from expunge.models.sample import draw
from expunge.models.store import load
from expunge.records import Request, Sampler
from pipelines_of_families import BUILDERS, built, flux, latents, sd3, sdxl, taken

PROMPTS = ["a church", "an image of a dog on a hill by the sea, blue background"]
SIZES = [(16, 16), (24, 32)]


@pytest.fixture(scope="module", params=[*BUILDERS])
def pair(request: pytest.FixtureRequest) -> tuple[Any, Model]:
    """A pipeline, and the model that was made of another of the same weights."""
    return built(request.param), taken(built(request.param))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("guided", [False, True])
def test_latents_are_those_of_diffusers(pair: tuple[Any, Model], size: tuple[int, int], guided: bool) -> None:
    pipe, model = pair
    takes_none = model.denoiser.guided == "none"
    guidance = 4.0 if guided and not takes_none else 1.0
    x = model.initial_noise([3, 4], *size)
    cond = model.encode(PROMPTS, truncate=True)
    ours = denoise(model, x, cond, against(model, guidance), 4, guidance)
    theirs = latents(pipe, PROMPTS, x, 4, guidance)
    assert not torch.allclose(ours[0], ours[1], atol=0.1)
    torch.testing.assert_close(ours, theirs, atol=1e-5 * float(theirs.abs().max()), rtol=0)


def test_pixels_go_both_ways_by_one_scale(pair: tuple[Any, Model]) -> None:
    pipe, model = pair
    z = torch.randn(1, *model.latent_shape, generator=torch.Generator().manual_seed(0)) * 0.3
    vae = pipe.vae
    with torch.no_grad():
        pixels = vae.decode(z / vae.config.scaling_factor + (vae.config.shift_factor or 0.0)).sample
        mean = vae.encode(pixels.clamp(-1, 1)).latent_dist.mean
    torch.testing.assert_close(model.decode(z), (pixels / 2 + 0.5).clamp(0, 1), atol=1e-5, rtol=0)
    expected = (mean - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor
    torch.testing.assert_close(model.encode_pixels((pixels / 2 + 0.5).clamp(0, 1)), expected, atol=1e-4, rtol=0)


def test_an_exact_output_leads_back_to_the_clean_latent_at_both_ends(pair: tuple[Any, Model]) -> None:
    _, model = pair
    process, generator = model.process, torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, 1, *model.latent_shape, generator=generator)
    for share in (0.0, 0.25, 0.5, 0.75, 0.999):
        t = process.schedule.quantile(torch.tensor([share]))
        x = process.noised(x0, eps, t)
        found = process.clean(process.target(x0, eps, t), x, t)
        torch.testing.assert_close(found, x0, atol=1e-3, rtol=0)


def test_cached_conditioning_is_a_fresh_one_bit_for_bit(pair: tuple[Any, Model]) -> None:
    _, model = pair
    one, two = model.encode(PROMPTS, truncate=True), model.encode(PROMPTS, truncate=True)
    assert {name for name, value in one.rows.items() if value.equal(two.rows[name])} == {*one.rows}
    assert not one.rows["pooled"][0].equal(one.rows["pooled"][1])


def test_the_teacher_of_an_untouched_model_answers_alike(pair: tuple[Any, Model]) -> None:
    _, model = pair
    teacher, x = model.frozen_copy(), model.initial_noise([1, 2])
    t = model.process.schedule.quantile(torch.tensor([0.3, 0.7]))
    cond = model.encode(PROMPTS, truncate=True)
    assert teacher.predict(x, t, cond).equal(model.predict(x, t, cond))


def test_free_embeddings_in_the_place_of_their_own_change_nothing(pair: tuple[Any, Model]) -> None:
    _, model = pair
    encoder = model.texts[0]
    tokens = encoder.laid_out(["a church", "a dog"])
    table = encoder.table[tokens.ids]
    own, free = model.encode(["a church", "a dog"]), model.encode_embedded(["a church", "a dog"], tokens, table)
    for name in own.rows:
        torch.testing.assert_close(free.rows[name], own.rows[name], atol=1e-6, rtol=0)
    other = model.encode_embedded(["a church", "a dog"], tokens, table + 0.3)
    assert not torch.allclose(other.states, own.states, atol=1e-2)


def test_sides_that_the_network_cannot_take_are_refused(pair: tuple[Any, Model]) -> None:
    _, model = pair
    multiple = model.denoiser.multiple
    with pytest.raises(UserError, match=f"multiple of {multiple}"):
        model.initial_noise([0], 4 * multiple + 1, None)


def test_sdxl_goes_away_from_zeros_or_from_the_empty_prompt_as_its_folder_says() -> None:
    pipe = built("sdxl")
    model = taken(pipe)
    assert model.denoiser.null == "zeros"
    assert all(float(model.unconditional().rows[name].abs().max()) == 0 for name in ("states", "pooled"))
    assert float(model.unconditional("a dog").states.abs().max()) > 0
    pipe.register_to_config(force_zeros_for_empty_prompt=False)
    assert taken(pipe).denoiser.null == "empty"
    assert taken(pipe).unconditional().states.equal(model.encode([""]).states)


@pytest.mark.parametrize("change", [
    lambda pipe: pipe.register_to_config(force_zeros_for_empty_prompt=False),
    lambda pipe: setattr(pipe.text_encoder_2.config, "eos_token_id", 2),
    lambda pipe: setattr(pipe.tokenizer_2, "pad_token", "a</w>"),
    lambda pipe: pipe.vae.register_to_config(scaling_factor=0.7),
    lambda pipe: pipe.unet.register_to_config(addition_time_embed_dim=9)])
def test_what_draws_otherwise_is_kept_apart(change: Any) -> None:
    pipe = built("sdxl")
    before = taken(pipe).drawing
    change(pipe)
    assert taken(pipe).drawing != before


@pytest.mark.parametrize(("name", "scheduling"), [
    ("sd3", {"shift": 2.0}), ("flux-dev", {"max_shift": 1.3}), ("flux-dev", {"use_dynamic_shifting": False})])
def test_grids_that_differ_are_kept_apart(name: str, scheduling: dict[str, Any]) -> None:
    pipe = built(name)
    before = taken(pipe).drawing
    own = {key: value for key, value in pipe.scheduler.config.items() if not key.startswith("_")}
    pipe.scheduler = type(pipe.scheduler)(**{**own, **scheduling})
    assert taken(pipe).drawing != before


def test_flux_is_told_its_guidance_and_schnell_takes_none() -> None:
    dev, schnell = taken(built("flux-dev")), taken(built("flux-schnell"))
    x, cond = dev.initial_noise([1], 16, 16), dev.encode(["a church"])
    drawn = {scale: denoise(dev, x, cond, None, 2, scale) for scale in (1.0, 3.5)}
    assert not torch.allclose(drawn[1.0], drawn[3.5], atol=1e-4)
    with pytest.raises(UserError, match="takes none"):
        denoise(schnell, x, schnell.encode(["a church"]), None, 2, 3.5)


def test_flux_shifts_its_times_with_the_size() -> None:
    model = taken(built("flux-dev"))
    small, large = (model.process_for(model.initial_noise([0], side, side)).schedule.grid(4)[1] for side in (16, 128))
    assert float(small) < float(large)


@pytest.mark.parametrize("kind", ["Flux2Pipeline", "QwenImagePipeline", "ZImagePipeline", "PixArtSigmaPipeline",
                                  "SanaPipeline", "Lumina2Pipeline"])
def test_other_families_are_refused_with_what_they_would_need(kind: str) -> None:
    with pytest.raises(ModelError, match=f"holds a {kind}: it needs .*FluxPipeline"):
        family_of(kind, "a folder")


def edm() -> Any:
    from diffusers import EDMEulerScheduler

    pipe = sdxl()
    pipe.scheduler = EDMEulerScheduler()
    return pipe


@pytest.mark.parametrize(("pipe", "said"), [
    (lambda: sd3(stochastic_sampling=True), "no deterministic flow"),
    (lambda: flux(invert_sigmas=True), "no deterministic flow"), (edm, "in place of a noise schedule")])
def test_schedulers_that_the_sampler_would_not_follow_are_refused(pipe: Any, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        taken(pipe())


@pytest.mark.parametrize("name", [*BUILDERS])
@pytest.mark.parametrize("where", ["entry", "text"])
def test_a_patch_goes_on_a_pipeline_of_its_family_and_changes_what_it_draws(name: str, where: str) -> None:
    model, pipe = taken(built(name)), built(name)
    changed = model.parameters_in(model.denoiser.entry if where == "entry" else where)
    request = Request(concept="church", anchor="house", prompts=("a church",))
    generator = torch.Generator().manual_seed(0)
    moved = {full: value + 0.2 * torch.randn(value.shape, generator=generator) for full, value in changed.items()}
    patch = Patch.of(moved, model=model, request=request,
                     method="by hand", settings={}, seed=0)
    x = model.initial_noise([5, 6], 16, 16)
    before = latents(pipe, PROMPTS, x, 2, 1.0)
    shares = load_into_pipeline(pipe, patch)
    assert {*shares} == {full.partition("/")[0] for full in patch.tensors}
    assert all(share > 0 for share in shares.values())
    assert not torch.allclose(latents(pipe, PROMPTS, x, 2, 1.0), before, atol=1e-4)


def test_a_scheduler_of_another_method_is_refused() -> None:
    from diffusers import FlowMatchHeunDiscreteScheduler

    pipe = built("sd3")
    pipe.scheduler = FlowMatchHeunDiscreteScheduler()
    with pytest.raises(ModelError, match="FlowMatchHeunDiscreteScheduler that is no deterministic flow"):
        taken(pipe)


def test_a_grid_that_ddim_has_not_is_told(caplog: pytest.LogCaptureFixture) -> None:
    taken(sdxl("EulerDiscreteScheduler", use_karras_sigmas=True))
    assert "asks for use_karras_sigmas; images are drawn with DDIM" in caplog.text


def test_a_negative_prompt_that_would_do_nothing_is_refused() -> None:
    dev = taken(built("flux-dev"))
    with pytest.raises(UserError, match=r"no effect; accepted: no negative prompt: FLUX\.1 makes no use of one"):
        draw(dev, [("a church", 0)], Sampler(steps=2, guidance=3.5, negative="a tower", height=16, width=16))


def test_t5_keeps_in_float32_what_overflows_in_float16() -> None:
    family = FAMILIES["StableDiffusion3Pipeline"]
    model = Model(family.make(built("sd3")), "tiny", dtype=torch.float16)
    kinds = {name.rpartition(".")[0].rpartition(".")[2]: parameter.dtype
             for name, parameter in model.components["text_encoder_3"].named_parameters()}
    assert kinds["wo"] == torch.float32
    assert kinds["wi"] == kinds["q"] == torch.float16


@pytest.mark.parametrize(("name", "gone", "said"), [
    ("sdxl", "tokenizer_2", "has no tokenizer_2"), ("sd3", "tokenizer_3", "has no tokenizer_3"),
    ("flux-dev", "text_encoder_2", "has no weights for text_encoder_2")])
def test_a_folder_without_one_of_its_parts_is_refused(name: str, gone: str, said: str, tmp_path: Path) -> None:
    built(name).save_pretrained(tmp_path)
    shutil.rmtree(tmp_path / gone)
    with pytest.raises(ModelError, match=said):
        load(tmp_path, device="cpu")


def test_an_encoder_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    from transformers import CLIPTextConfig, CLIPTextModel

    pipe = built("sdxl")
    pipe.text_encoder = CLIPTextModel(CLIPTextConfig(
        vocab_size=40, hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        max_position_embeddings=16))
    pipe.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"words in .* where the text_encoder knows 40"):
        load(tmp_path, device="cpu")


def test_a_unet_of_another_family_is_refused(pipeline_folder: Path) -> None:
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(pipeline_folder, safety_checker=None)
    pipe.unet = built("sdxl").unet
    with pytest.raises(ModelError, match="another family's"):
        Model(FAMILIES["StableDiffusionPipeline"].make(pipe), "mixed")


def test_a_small_flux_says_its_own_size_and_tokens() -> None:
    pipe = flux()
    pipe.vae.register_to_config(sample_size=64)
    pipe.text_encoder_2.config.n_positions = 20
    small = Model(FAMILIES["FluxPipeline"].make(pipe), "flux")
    assert small.latent_shape == (4, 32, 32)
    assert small.texts[0].length == 20
    pipe.vae.register_to_config(sample_size=4096)
    pipe.text_encoder_2.config.n_positions = 4096
    published = Model(FAMILIES["FluxPipeline"].make(pipe), "flux")
    assert published.latent_shape == (4, pipe.default_sample_size, pipe.default_sample_size)
    assert published.texts[0].length == 512
