"""Which family's model a single file holds, by the names and shapes of its tensors.

Source: the keys that diffusers goes by (`loaders/single_file_utils.py`, `infer_diffusers_model_type`). Differs: widths
decide nothing but the name that is told; what is no whole text-to-image model is refused with what it is.
"""

from __future__ import annotations

from collections.abc import Mapping

from expunge.errors import ModelError
from expunge.models.families import FAMILIES, wanting

Shapes = Mapping[str, tuple[int, ...]]
"""Shapes by the tensors' names."""
NETWORK = "model.diffusion_model."
"""Before the network's names in files that hold more than it."""

_OTHERS = {
    "single_stream_modulation.lin.weight": "Flux2Pipeline", "layers.0.adaLN_modulation.0.weight": "ZImagePipeline",
    "layers.0.adaLN_modulation.1.weight": "Lumina2Pipeline",
    "distilled_guidance_layer.in_proj.weight": "ChromaPipeline",
    "transformer_blocks.0.img_mod.1.weight": "QwenImagePipeline",
    "blocks.0.mlp.inverted_conv.conv.weight": "SanaPipeline",
    "blocks.0.cross_attn.kv_linear.weight": "PixArtSigmaPipeline"}
"""A tensor of networks that are not taken over, and the pipeline that draws with them."""
_CHANNELS = {5: "StableDiffusionDepth2ImgPipeline", 7: "StableDiffusionUpscalePipeline",
             8: "StableDiffusionInstructPix2PixPipeline"}
"""What a UNet with so many input channels over 4 of latents draws."""
_FLUX_CHANNELS = {128: "FluxControlPipeline", 384: "FluxFillPipeline"}
_COMPONENTS = ("down_blocks.0.", "transformer_blocks.0.", "single_transformer_blocks.0.", "encoder.down_blocks.0.")
_TEXTS = ("text_model.", "encoder.block.0.", "shared.weight", "transformer.resblocks.")
_ADAPTERS = (".lora_down.weight", ".lora_A.weight", ".lora_up.weight", ".lora_B.weight", ".lora.down.weight")


def recognised(shapes: Shapes, where: str) -> str:
    """The class of the pipeline whose network is in a file with these tensors.

    Args:
        where: what messages call the file.

    Raises:
        ModelError: another family's network, or something else than a model; says what.
    """
    names = {name.removeprefix(NETWORK): shape for name, shape in shapes.items()}
    for key, kind in _OTHERS.items():
        if key in names:
            raise _other(kind, where)
    if "double_blocks.0.img_attn.qkv.weight" in names:
        wide = names.get("img_in.weight", (0, 0))[1]
        if wide in _FLUX_CHANNELS:
            raise _other(_FLUX_CHANNELS[wide], where)
        return "FluxPipeline"
    if "joint_blocks.0.context_block.attn.qkv.weight" in names:
        return "StableDiffusion3Pipeline"
    if "input_blocks.0.0.weight" in names:
        return _unet(shapes, names, where)
    raise ModelError(f"{where} holds {_what(names)}", accepted="a single file of " + ", ".join(
        family.title for family in FAMILIES.values()) + ", network included", remedy=_remedy(names))


def _unet(shapes: Shapes, names: Shapes, where: str) -> str:
    channels = names["input_blocks.0.0.weight"][1]
    large = "label_emb.0.0.weight" in names
    inpainting = channels == 9
    if channels in _CHANNELS:
        raise _other(_CHANNELS[channels], where)
    starts = {".".join(name.split(".")[:3]) for name in shapes if name.startswith("conditioner.embedders.")}
    if large and starts == {"conditioner.embedders.0"}:
        raise _other("StableDiffusionXLImg2ImgPipeline", where)
    return f"StableDiffusion{'XL' if large else ''}{'Inpaint' if inpainting else ''}Pipeline"


def _other(kind: str, where: str) -> ModelError:
    return ModelError(f"{where} holds the network of a {kind}{wanting(kind)}",
                      accepted="; ".join(f"{name} ({family.title})" for name, family in FAMILIES.items()))


def _what(names: Shapes) -> str:
    if any(name.endswith(_ADAPTERS) for name in names):
        return "a LoRA, not a model"
    if any(name.startswith(_COMPONENTS) for name in names):
        return "one component of a diffusers folder"
    if any(name.startswith(("encoder.down.", "first_stage_model.", "vae.")) for name in names):
        return "an autoencoder, and no network that draws"
    if any(name.startswith(_TEXTS) for name in names):
        return "a text encoder, and no network that draws"
    return f"no model that is known: {min(names)!r} is its first tensor" if names else "no tensors"


def _remedy(names: Shapes) -> str:
    if any(name.endswith(_ADAPTERS) for name in names):
        return "name the model with --model, and this file with --lora"
    if any(name.startswith(_COMPONENTS) for name in names):
        return "name the whole folder, model_index.json included"
    return ""
