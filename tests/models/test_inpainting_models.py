"""Inpainting models draw with the whole image masked as their diffusers pipeline does, and say so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from expunge.errors import ModelError
from expunge.models.denoising import against, denoise
from expunge.models.families import FAMILIES
from expunge.models.model import Model, drawn_by
from expunge.models.patch import Patch
from expunge.models.store import load, merge
from expunge.records import Request
from expunge.unlearn.erase import plan
from original_files import bare_parts, single_file, tensors_of
from pipelines import pipeline
from pipelines_of_families import built, inpainting, latents, taken

KIND = "StableDiffusionInpaintPipeline"


def sd() -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return inpainting(pipeline({"steps_offset": 1, "set_alpha_to_one": False}), KIND)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("inpainting") / "folder"
    sd().save_pretrained(where)
    return where


@pytest.mark.parametrize("size", [(16, 16), (24, 32)])
@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_latents_are_those_of_diffusers_under_a_full_mask(size: tuple[int, int], guidance: float) -> None:
    pipe, model, prompts = sd(), taken(sd()), ["a church", "a dog on a hill by the sea"]
    x = model.initial_noise([3, 4], *size)
    ours = denoise(model, x, model.encode(prompts), against(model, guidance), 4, guidance)
    theirs = latents(pipe, prompts, x, 4, guidance)
    torch.testing.assert_close(ours, theirs, atol=1e-5 * float(theirs.abs().max()), rtol=0)


def test_mask_and_image_are_heard() -> None:
    model, x = taken(sd()), torch.zeros(1, 4, 8, 8)
    unet = model.components["unet"]
    given = list[torch.Tensor]()
    unet.conv_in.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    model.predict(x, torch.tensor([500]), model.encode(["a church"]))
    assert given[0].shape == (1, 9, 8, 8)
    assert bool((given[0][:, 4] == 1).all())
    torch.testing.assert_close(given[0][:, 5:], model.encode_pixels(torch.full((1, 3, 16, 16), 0.5)))


def test_a_copy_encodes_by_its_own_autoencoder() -> None:
    model, x, cond = taken(sd()), torch.zeros(1, 4, 8, 8), taken(sd()).encode(["a church"])
    before = model.predict(x, torch.tensor([500]), cond)
    twin = model.denoiser.with_components({"vae": taken(built("sdxl")).components["vae"]})
    assert not twin.predict(x, torch.tensor([500]), cond).allclose(before, atol=1e-4)
    assert model.predict(x, torch.tensor([500]), cond).equal(before)


def test_records_and_the_log_say_that_the_whole_image_was_masked(folder: Path, caplog: Any) -> None:
    model = load(folder, device="cpu")
    assert "with the whole image masked" in caplog.text
    assert drawn_by(model)["family"] == "Stable Diffusion, inpainting (the whole image masked)"
    weights = {name: p + 0.1 for name, p in model.parameters_in("xattn.kv").items()}
    patch = Patch.of(weights, model=model, request=Request(concept="church", prompts=("a church",)), method="by hand",
                     settings={}, seed=0)
    assert "the whole image masked" in patch.card.base_family


def test_it_is_edited_planned_and_merged_as_any_model(folder: Path, tmp_path: Path) -> None:
    import diffusers

    model = load(folder, device="cpu")
    planned = plan(model, "church", "esd", settings={"steps": 2, "source": {"grid": 2, "trajectories": 2}})
    assert planned["trained"]["parameters"] > 0
    weights = {name: p + 0.1 for name, p in model.parameters_in("xattn.kv").items()}
    patch = Patch.of(weights, model=model, request=Request(concept="church", prompts=("a church",)), method="by hand",
                     settings={}, seed=0)
    pipe = getattr(diffusers, KIND).from_pretrained(merge(folder, patch, tmp_path / "merged", "float32"))
    x = model.initial_noise([1])
    model.apply(patch)
    ours = denoise(model, x, model.encode(["a church"]), None, 2, 1.0)
    theirs = latents(pipe, ["a church"], x, 2, 1.0)
    torch.testing.assert_close(ours, theirs, atol=1e-5 * float(theirs.abs().max()), rtol=0)


@pytest.mark.parametrize("name", ["sd", "sdxl"])
def test_a_single_file_is_the_model_of_its_folder(tmp_path: Path, name: str) -> None:
    pipe = sd() if name == "sd" else built("sdxl-inpainting")
    pipe.save_pretrained(tmp_path / "whole")
    file = single_file(tmp_path / "model.safetensors", tensors_of(pipe))
    opened = load(file, device="cpu", parts=bare_parts(pipe, tmp_path / "parts"))
    folder = load(tmp_path / "whole", device="cpu")
    assert (opened.hash, opened.parts, opened.family) == (folder.hash, folder.parts, folder.family)


def test_an_inpainting_pipeline_around_a_plain_unet_is_refused(pipeline_folder: Path, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(pipeline_folder, tmp_path / "folder"))
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "_class_name": KIND}))
    with pytest.raises(ModelError, match=r"a UNet of 4 input channels over 4 latent channels.*_class_name"):
        load(folder, device="cpu")


def test_a_plain_patch_does_not_go_on_the_inpainting_model(folder: Path, pipeline_folder: Path) -> None:
    plain, model = load(pipeline_folder, device="cpu"), load(folder, device="cpu")
    weights = {name: p + 0.1 for name, p in plain.parameters_in("xattn.kv").items()}
    patch = Patch.of(weights, model=plain, request=Request(concept="church", prompts=("a church",)), method="by hand",
                     settings={}, seed=0)
    with pytest.raises(ModelError, match="inpainting"):
        model.check_fits(patch)


def test_every_pipeline_that_is_taken_over_has_a_home_for_its_small_files() -> None:
    from expunge.models.single_file import REPOSITORIES

    assert {*REPOSITORIES} == {*FAMILIES}
    assert isinstance(taken(built("sdxl-inpainting")), Model)
