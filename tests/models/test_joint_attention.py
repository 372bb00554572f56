"""Scopes of the published sizes of every family, counted on the meta device: no weights are needed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from expunge.models.joint_attention import DOUBLE_AND_SINGLE, JOINT
from expunge.models.scope import Rule, select
from expunge.models.sdxl import StableDiffusionXL

SIZES = {
    "sdxl": {"xattn.kv": (340.79, 140), "xattn": (545.67, 350), "pooled": (5.25, 4)},
    "sd3-medium": {"text.kv": (113.32, 96), "attn": (450.92, None), "entry": (6.29, 2), "modulation": (675.20, None)},
    "sd3.5-large": {"text.kv": (449.70, 152), "attn": (1792.88, None), "entry": (9.96, 2)},
    "flux": {"text.kv": (358.73, 76), "attn.double": (1434.92, 304), "attn.single": (1076.20, 228),
             "entry": (12.59, 2), "modulation": (3247.0, 154)},
}
"""Millions of parameters, and tensors where they were counted: of the published models' configs."""


def network(name: str) -> tuple[Any, Mapping[str, Rule]]:
    import diffusers

    with torch.device("meta"):
        if name == "sdxl":
            return diffusers.UNet2DConditionModel(
                sample_size=128, block_out_channels=(320, 640, 1280), layers_per_block=2,
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=2048,
                transformer_layers_per_block=(1, 2, 10), attention_head_dim=(5, 10, 20), use_linear_projection=True,
                addition_embed_type="text_time", addition_time_embed_dim=256,
                projection_class_embeddings_input_dim=2816), StableDiffusionXL.scopes
        if name == "flux":
            return diffusers.FluxTransformer2DModel(guidance_embeds=True), DOUBLE_AND_SINGLE
        large = name == "sd3.5-large"
        layers = 38 if large else 24
        return diffusers.SD3Transformer2DModel(
            sample_size=128, num_layers=layers, num_attention_heads=layers, attention_head_dim=64,
            pos_embed_max_size=192, joint_attention_dim=4096, caption_projection_dim=64 * layers,
            pooled_projection_dim=2048, qk_norm="rms_norm" if large else None), JOINT


@pytest.mark.parametrize("name", [*SIZES])
def test_scopes_have_the_sizes_of_the_published_models(name: str) -> None:
    net, table = network(name)
    for scope, (millions, tensors) in SIZES[name].items():
        found = select("denoiser", net, table, {}, scope)
        assert sum(p.numel() for p in found.values()) / 1e6 == pytest.approx(millions, rel=1e-3), scope
        assert tensors in (None, len(found)), scope


@pytest.mark.parametrize("name", [*SIZES])
def test_what_is_and_is_not_attention_make_a_whole(name: str) -> None:
    net, table = network(name)
    inside, outside, whole = (select("denoiser", net, table, {}, scope) for scope in ("xattn", "noxattn", "unet"))
    assert inside.keys().isdisjoint(outside)
    assert {**inside, **outside}.keys() == whole.keys()
