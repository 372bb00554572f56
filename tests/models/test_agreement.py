"""Folders whose parts are from different models, and UNets that take more than latents, are refused by name."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from expunge.errors import ModelError
from expunge.models.store import load
from pipelines import pipeline
from pipelines_of_families import built


def made(name: str) -> Any:
    return pipeline({"steps_offset": 1, "set_alpha_to_one": False}) if name == "sd" else built(name)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = {name: tmp_path_factory.mktemp(name) / "folder" for name in ("sd", "sdxl", "sd3", "flux-dev")}
    for name, folder in out.items():
        made(name).save_pretrained(folder)
    return out


@pytest.mark.parametrize(("folder", "part", "other", "theirs", "words"), [
    ("sd", "text_encoder", "sdxl", "text_encoder_2", r"states of 32 \(cross_attention_dim\), and text_encoder 48 "),
    ("sd", "unet", "sdxl", "unet", r"mixed: the network takes states of 80 \(cross_.*, and text_encoder 32 "),
    ("sdxl", "unet", "sd", "unet", r"mixed: .* states of 32 .* text_encoder 32 and text_encoder_2 48 "),
    ("sdxl", "text_encoder", "sdxl", "text_encoder_2", r"takes states of 80 .* text_encoder 48 and text_encoder_2 48 "),
    ("sd3", "text_encoder_3", "flux-dev", "text_encoder_2", r"takes states of 96 .* text_encoder_3 32 wide"),
    ("sd3", "text_encoder_2", "sd3", "text_encoder", r"pooled states of 80 .*text_encoder 32 and text_encoder_2 32 "),
    ("flux-dev", "text_encoder_2", "sd3", "text_encoder_3", r"takes states of 32 .* text_encoder_2 96 wide"),
    ("flux-dev", "text_encoder", "sdxl", "text_encoder_2", r"takes pooled states of 32 .* text_encoder 48 wide")])
def test_parts_of_different_models_are_told_with_their_widths(folders: dict[str, Path], tmp_path: Path, folder: str,
                                                              part: str, other: str, theirs: str, words: str) -> None:
    mixed = Path(shutil.copytree(folders[folder], tmp_path / "mixed"))
    shutil.rmtree(mixed / part)
    shutil.copytree(folders[other] / theirs, mixed / part)
    with pytest.raises(ModelError, match=words):
        load(mixed, device="cpu")


@pytest.mark.parametrize("name", ["sd3", "flux-dev"])
def test_an_autoencoder_of_other_channels_is_told(folders: dict[str, Path], tmp_path: Path, name: str) -> None:
    from pipelines_of_families import _vae

    mixed = Path(shutil.copytree(folders[name], tmp_path / "mixed"))
    shutil.rmtree(mixed / "vae")
    _vae(8, 0.1).save_pretrained(mixed / "vae")
    with pytest.raises(ModelError, match=r"takes latents of 4 channels, and the autoencoder's have 8"):
        load(mixed, device="cpu")


@pytest.mark.parametrize(("channels", "words"), [
    (9, "an inpainting model, which needs an image and a mask"), (5, "a depth model, which needs a depth map"),
    (8, "an editing model, which needs an image")])
@pytest.mark.parametrize("name", ["sd", "sdxl"])
def test_unets_that_take_more_than_latents_are_refused_by_name(tmp_path: Path, name: str, channels: int, words: str
                                                               ) -> None:
    import diffusers

    pipe = made(name)
    pipe.unet = diffusers.UNet2DConditionModel.from_config({**pipe.unet.config, "in_channels": channels})
    pipe.save_pretrained(tmp_path / "folder")
    with pytest.raises(ModelError, match=f"folder: a UNet of {channels} input channels over 4 latent.*: {words}"):
        load(tmp_path / "folder", device="cpu")
