"""Whether the parts of a model belong together: a network reads states as wide as its text encoders give them.

A folder whose parts are from different models may open, for each part is whole; it fails only when it draws, or draws
from states that the network was never told.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from expunge.errors import ModelError

_WIDTHS = {768: "CLIP-L, as in Stable Diffusion 1.x", 1024: "OpenCLIP-H, as in Stable Diffusion 2.x",
           1280: "OpenCLIP-bigG, as in Stable Diffusion XL", 4096: "T5-XXL, as in FLUX.1 and Stable Diffusion 3"}


def check_agreement(components: Mapping[str, Any], place: Path) -> None:
    """See that widths of text states, pooled states and latents are those that the network takes.

    Raises:
        ModelError: parts of different models; says which, and their widths.
    """
    network = components.get("unet", components.get("transformer"))
    config: Any = getattr(network, "config", None)
    texts = {name: part.config for name, part in components.items() if name.startswith("text_encoder")}
    kind = type(network).__name__
    if kind == "UNet2DConditionModel":
        _same(place, "cross_attention_dim", config.cross_attention_dim, _wide(texts), "states")
        if config.addition_embed_type == "text_time" and "text_encoder_2" in texts:
            pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
            second = {"text_encoder_2": texts["text_encoder_2"].projection_dim}
            _same(place, "the pooled state's width", pooled, second, "pooled states")
    elif kind == "SD3Transformer2DModel":
        clips = {name: texts[name].projection_dim for name in ("text_encoder", "text_encoder_2")}
        _same(place, "pooled_projection_dim", config.pooled_projection_dim, clips, "pooled states")
        if "text_encoder_3" in texts:
            last = {"text_encoder_3": texts["text_encoder_3"].d_model}
            _same(place, "joint_attention_dim", config.joint_attention_dim, last, "states")
        _latents(place, config.in_channels, components["vae"])
    elif kind == "FluxTransformer2DModel":
        _same(place, "joint_attention_dim", config.joint_attention_dim,
              {"text_encoder_2": texts["text_encoder_2"].d_model}, "states")
        _same(place, "pooled_projection_dim", config.pooled_projection_dim,
              {"text_encoder": texts["text_encoder"].hidden_size}, "pooled states")
        _latents(place, config.in_channels // 4, components["vae"])


def _wide(texts: Mapping[str, Any]) -> dict[str, int]:
    return {name: config.hidden_size for name, config in texts.items()}


def _same(place: Path, what: str, wanted: Any, given: Mapping[str, int], of: str) -> None:
    """ModelError: `wanted` is not the sum of the widths that the encoders give."""
    if isinstance(wanted, int) and wanted != sum(given.values()):
        told = " and ".join(f"{name} {width}" + (f" ({_WIDTHS[width]})" if width in _WIDTHS else "")
                            for name, width in given.items())
        raise ModelError(f"parts of different models in {place}: the network takes {of} of {wanted} ({what}), and "
                         f"{told} wide are there", accepted="all parts of one model",
                         remedy="fetch or save the model again")


def _latents(place: Path, wanted: int, vae: Any) -> None:
    channels = vae.config.latent_channels
    if wanted != channels:
        raise ModelError(f"parts of different models in {place}: the network takes latents of {wanted} channels, and "
                         f"the autoencoder's have {channels}",
                         accepted="text-to-image models with all parts of one model",
                         remedy="fetch or save the model again")
