"""The embedded UNet in the form of Stable Diffusion XL draws the same images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPModel, CLIPTokenizer

from baking import small
from expunge.models.sample import draw
from expunge.models.store import load
from expunge.records import Sampler
from expunge.tiny.bake.clip import text_tower
from expunge.tiny.bake.recipe import bake
from expunge.tiny.bake.xl import WIDTHS, write_xl
from expunge.tiny.bake.xl_text import said_at, widened
from expunge.tiny.emoji import WEIGHTS

TEXTS = ["a church", "this is a three dimensional icon showing the bones of a dead head over purple", ""]


@pytest.fixture(scope="module")
def clip() -> CLIPModel:
    return CLIPModel.from_pretrained(WEIGHTS / "clip", dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def folder(clip: CLIPModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, parts = tmp_path_factory.mktemp("xl") / "emoji-xl", WEIGHTS / "emoji-64"
    write_xl(folder, AutoencoderKL.from_pretrained(parts / "vae"), UNet2DConditionModel.from_pretrained(parts / "unet"),
             CLIPTokenizer.from_pretrained(parts / "tokenizer"), clip)
    return folder


@pytest.mark.parametrize(("width", "projected"), [(WIDTHS[0], False), (WIDTHS[1], True)])
def test_states_before_the_last_layer_are_what_the_tower_says_after_its_norm(clip: CLIPModel, width: int,
                                                                             projected: bool) -> None:
    ids = CLIPTokenizer.from_pretrained(WEIGHTS / "emoji-64" / "tokenizer")(
        TEXTS, padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        said = text_tower(clip)(ids).last_hidden_state
        out = widened(clip, width, projected)(ids, output_hidden_states=True)
    states = out.hidden_states[-2]
    assert states.shape[2] == width
    assert (states[..., said_at(said.shape[2])] - said).abs().max() < 1e-5 * said.abs().max()
    if projected:
        told = text_tower(clip)(ids).pooler_output @ clip.text_projection.weight.T
        assert torch.cosine_similarity(out.text_embeds, told).min() > 0.98


@pytest.mark.slow
def test_it_draws_what_the_embedded_model_draws(folder: Path) -> None:
    model = load(folder, device="cpu")
    emoji, items = load("embedded", device="cpu"), [("a flat emoji of a church on a blue background", 3), ("a dog", 1)]
    before, after = (draw(each, items, Sampler(steps=4)) for each in (emoji, model))
    assert (before - after).abs().max() < 1e-4
    assert (model.guidance, model.world, model.family) == (emoji.guidance, "emoji", "Stable Diffusion XL")


@pytest.mark.slow
def test_plain_diffusers_draws_the_same(folder: Path) -> None:
    pipe = StableDiffusionXLPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    model = load(folder, device="cpu")
    drawn = pipe("a dog", latents=model.initial_noise([1]), num_inference_steps=4, guidance_scale=2.0,
                 output_type="pt").images
    assert torch.allclose(drawn, draw(model, [("a dog", 1)], Sampler(steps=4)), atol=1e-5)


@pytest.mark.slow
def test_either_encoder_alone_carries_a_part_of_the_prompt(folder: Path) -> None:
    pipe = StableDiffusionXLPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    noise = load(folder, device="cpu").initial_noise([1])
    whole, first, second = (
        pipe(one, prompt_2=two, latents=noise.clone(), num_inference_steps=2, guidance_scale=2.0,
             output_type="pt").images for one, two in (("a dog", "a dog"), ("a dog", "a moon"), ("a moon", "a dog")))
    assert not torch.allclose(whole, first, atol=1e-3)
    assert torch.allclose(first, second, atol=1e-4), "each is read for one half"


@pytest.mark.slow
def test_a_bake_that_starts_from_another_trains_nothing(baked: Path, pictures: Path, tmp_path: Path) -> None:
    stages: set[str] = set()
    bake(small(pictures, tmp_path, start=baked, make="emoji-xl"), lambda stage, *_: stages.add(stage))
    assert stages <= {"second judge"}
    items = [("a church", 0)]
    before, after = (draw(load(each, device="cpu"), items, Sampler(steps=2))
                     for each in (baked / "emoji-64", tmp_path / "emoji-xl"))
    assert (before - after).abs().max() < 1e-4
