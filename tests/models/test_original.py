"""The maps to original layouts, against diffusers' own converters: every name, every row, at published sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from expunge.models import original
from original_files import written

SD = {"block_out_channels": (320, 640, 1280, 1280), "layers_per_block": 2, "cross_attention_dim": 768,
      "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
      "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3}
SDXL = {"sample_size": 128, "block_out_channels": (320, 640, 1280), "layers_per_block": 2, "cross_attention_dim": 2048,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10), "attention_head_dim": (5, 10, 20), "use_linear_projection": True,
        "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816}
NETWORKS: dict[str, tuple[str, dict[str, Any], int]] = {
    "sd1": ("UNet2DConditionModel", SD, 686),
    "sd2": ("UNet2DConditionModel", {**SD, "cross_attention_dim": 1024, "use_linear_projection": True,
                                     "attention_head_dim": (5, 10, 20, 20)}, 686),
    "sdxl": ("UNet2DConditionModel", SDXL, 1680),
    "vae": ("AutoencoderKL", {
        "block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "latent_channels": 4,
        "down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}, 248),
    "sd3-medium": ("SD3Transformer2DModel", {
        "sample_size": 128, "num_layers": 24, "num_attention_heads": 24, "joint_attention_dim": 4096,
        "caption_projection_dim": 1536, "pooled_projection_dim": 2048, "pos_embed_max_size": 192}, 0),
    "sd3.5-medium": ("SD3Transformer2DModel", {
        "sample_size": 128, "num_layers": 24, "num_attention_heads": 24, "joint_attention_dim": 4096,
        "caption_projection_dim": 1536, "pooled_projection_dim": 2048, "pos_embed_max_size": 384,
        "qk_norm": "rms_norm", "dual_attention_layers": tuple(range(13))}, 0),
    "flux-dev": ("FluxTransformer2DModel", {"guidance_embeds": True}, 0),
    "flux-schnell": ("FluxTransformer2DModel", {}, 0)}


def thin(module: Any) -> dict[str, Any]:
    """The module's tensors with all their rows but one column each: numbers of their own, and little memory."""
    start, out = 0, {}
    for name, value in module.state_dict().items():
        shape = (value.shape[0], *(1 for _ in value.shape[1:]))
        out[name] = torch.arange(start, start + value.shape[0], dtype=torch.float64).reshape(shape)
        start += value.shape[0]
    return out


def converted(kind: str, tensors: dict[str, Any], config: Any) -> dict[str, Any]:
    from diffusers.loaders import single_file_utils as theirs

    if kind == "UNet2DConditionModel":
        return dict(theirs.convert_ldm_unet_checkpoint(tensors, config))
    if kind == "AutoencoderKL":
        return dict(theirs.convert_ldm_vae_checkpoint(tensors, config))
    if kind == "SD3Transformer2DModel":
        return dict(theirs.convert_sd3_transformer_checkpoint_to_diffusers(tensors))
    return dict(theirs.convert_flux_transformer_checkpoint_to_diffusers(tensors))


@pytest.mark.parametrize("name", [*NETWORKS])
def test_diffusers_converter_reads_what_the_map_says(name: str) -> None:
    import diffusers

    kind, how, count = NETWORKS[name]
    with torch.device("meta"):
        module = getattr(diffusers, kind)(**how)
    mine = thin(module)
    place, prefix = {
        "UNet2DConditionModel": lambda: (original.ldm_unet(module.config), "model.diffusion_model."),
        "AutoencoderKL": lambda: (original.ldm_vae(module.config), "first_stage_model."),
        "SD3Transformer2DModel": lambda: (original.sd3(module.config), ""),
        "FluxTransformer2DModel": lambda: (original.flux, "")}[kind]()
    file = written(mine, place, prefix)
    if kind == "AutoencoderKL":  # there the attention's matrices are convolutions
        file = {key: value[:, :, None, None] if ".attn_1." in key and value.dim() == 2 else value
                for key, value in file.items()}
    taken = {key: place(key).taken(file[prefix + place(key).key].reshape(-1, *value.shape[1:]), len(value))
             for key, value in mine.items()}
    assert all(torch.equal(taken[key], value) for key, value in mine.items())
    theirs = converted(kind, dict(file), module.config)
    assert theirs.keys() == mine.keys()
    assert not count or len(mine) == count
    for key, value in mine.items():
        assert torch.equal(theirs[key], value), key


@pytest.mark.parametrize("width", [8, 12])
def test_diffusers_converter_reads_open_clip_as_the_map_says(width: int) -> None:
    from diffusers.loaders.single_file_utils import convert_open_clip_checkpoint
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    module = CLIPTextModelWithProjection(CLIPTextConfig(
        vocab_size=40, hidden_size=width, intermediate_size=16, num_hidden_layers=2, num_attention_heads=4,
        projection_dim=width, max_position_embeddings=9))
    state = module.state_dict()
    assert not torch.equal(state["text_projection.weight"], state["text_projection.weight"].T)
    file = written(state, original.open_clip, "x.")
    read: dict[str, Any] = convert_open_clip_checkpoint(module, dict(file), prefix="x.")
    assert read.keys() == state.keys()
    assert all(torch.equal(read[name], value) for name, value in state.items())
    place: Callable[[str], Any] = original.open_clip
    for name, value in state.items():
        assert torch.equal(place(name).taken(file[f"x.{place(name).key}"], len(value)), value), name
