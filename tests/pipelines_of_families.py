"""Pipelines of every other family, very small, with random weights: SDXL, Stable Diffusion 3, FLUX, inpainting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pipelines import LENGTH, tokenizer


def _clip(kind: str, width: int) -> Any:
    import transformers

    count = len(tokenizer())
    config = transformers.CLIPTextConfig(
        vocab_size=count, hidden_size=width, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        projection_dim=width, max_position_embeddings=LENGTH, bos_token_id=count - 2, eos_token_id=count - 1,
        pad_token_id=count - 1)
    return getattr(transformers, kind)(config).eval()


def _t5(width: int) -> tuple[Any, Any]:
    """A unigram tokenizer over letters and a few words, and an encoder for it."""
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    words = ("church", "house", "hill", "dog", "a", "of", "picture")
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), ("\u2581", -4.0),
              *((chr(code), -6.0) for code in range(33, 127)), *((f"\u2581{word}", -2.0) for word in words)]
    known = T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=512)
    config = T5Config(vocab_size=len(known), d_model=width, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    return known, T5EncoderModel(config).eval()


def _vae(channels: int, shift: float | None = None) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 16), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=channels, norm_num_groups=4, sample_size=16,
        shift_factor=shift, scaling_factor=0.5, use_quant_conv=shift is None, use_post_quant_conv=shift is None)


def sdxl(scheduler: str = "EulerDiscreteScheduler", **scheduling: Any) -> Any:
    import diffusers

    unet = diffusers.UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(32, 64), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32 + 48, attention_head_dim=(2, 4), transformer_layers_per_block=(1, 2), norm_num_groups=8,
        use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 48)
    first, second = tokenizer(), tokenizer()
    second.pad_token = "!"
    how = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "steps_offset": 1,
           "timestep_spacing": "leading", **scheduling}
    if scheduler.startswith("Euler"):  # the published folder has it, from the scheduler that the model began with
        how["set_alpha_to_one"] = False
    return diffusers.StableDiffusionXLPipeline(
        vae=_vae(4), unet=unet, tokenizer=first, tokenizer_2=second, text_encoder=_clip("CLIPTextModel", 32),
        text_encoder_2=_clip("CLIPTextModelWithProjection", 48),
        scheduler=getattr(diffusers, scheduler).from_config(how))


def inpainting(pipe: Any, kind: str) -> Any:
    """The pipeline with a UNet that is told a mask and an image, of the inpainting class of that name."""
    import diffusers
    import torch

    unet = diffusers.UNet2DConditionModel.from_config({**pipe.unet.config, "in_channels": 9})
    out = getattr(diffusers, kind)(**{**pipe.components, "unet": unet}, **(
        {} if "XL" in kind else {"requires_safety_checker": False}))
    # The pipelines draw the image's latents from the posterior; without variance that is its mean.
    channels = pipe.vae.config.latent_channels
    with torch.no_grad():
        pipe.vae.quant_conv.weight[channels:] = 0
        pipe.vae.quant_conv.bias[channels:] = -40
    return out


def sd3(t5: bool = True, **scheduling: Any) -> Any:
    import diffusers

    transformer = diffusers.SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=4, out_channels=4, num_layers=2, attention_head_dim=8,
        num_attention_heads=4, joint_attention_dim=96, caption_projection_dim=32, pooled_projection_dim=80,
        pos_embed_max_size=16)
    third, encoder = _t5(96)
    how = {"shift": 3.0, **scheduling}
    return diffusers.StableDiffusion3Pipeline(
        vae=_vae(4, 0.1), transformer=transformer, tokenizer=tokenizer(), tokenizer_2=tokenizer(),
        text_encoder=_clip("CLIPTextModelWithProjection", 32), text_encoder_2=_clip("CLIPTextModelWithProjection", 48),
        tokenizer_3=third if t5 else None, text_encoder_3=encoder if t5 else None,
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(**how))


def flux(guided: bool = True, **scheduling: Any) -> Any:
    import diffusers

    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=(4, 4, 8), guidance_embeds=guided)
    second, encoder = _t5(32)
    how = {"use_dynamic_shifting": True, **scheduling}
    return diffusers.FluxPipeline(
        vae=_vae(4, 0.1), transformer=transformer, tokenizer=tokenizer(), text_encoder=_clip("CLIPTextModel", 32),
        tokenizer_2=second, text_encoder_2=encoder, scheduler=diffusers.FlowMatchEulerDiscreteScheduler(**how))


BUILDERS: Mapping[str, Callable[[], Any]] = {
    "sdxl": sdxl, "sdxl-inpainting": lambda: inpainting(sdxl(), "StableDiffusionXLInpaintPipeline"),
    "sd3": sd3, "sd3-no-t5": lambda: sd3(t5=False), "flux-dev": flux,
    "flux-schnell": lambda: flux(guided=False, use_dynamic_shifting=False)}
"""By the name that tests call it."""


def built(name: str) -> Any:
    """The pipeline of that name, the same at each call."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipe = BUILDERS[name]()
        for parameter in pipe.components["transformer" if "transformer" in pipe.components else "unet"].parameters():
            if not bool(parameter.any()):  # layers that begin at zero would hide what they are told
                torch.nn.init.normal_(parameter, std=0.05)
        return pipe


def taken(pipe: Any, **how: Any) -> Any:
    """The pipeline's parts as a loaded model, of which nothing is seen but what the border names."""
    from expunge.models.families import FAMILIES
    from expunge.models.model import Model
    from families import strict

    family = FAMILIES[type(pipe).__name__]
    return strict(Model(family.make(pipe, **how), "tiny", guidance=family.guidance))


def latents(pipe: Any, prompts: list[str], x: Any, steps: int, guidance: float) -> Any:
    """What diffusers makes of the noise x (B, c, h, w), as latents."""
    import torch

    from expunge.models.flux import packed, unpacked

    pipe.set_progress_bar_config(disable=True)
    kind, height, width = type(pipe).__name__, 2 * x.shape[2], 2 * x.shape[3]
    of_flux, more = kind == "FluxPipeline", dict[str, Any]()
    if of_flux:  # what FLUX's model card asks for: schnell was trained on 256 tokens
        more = {"max_sequence_length": 512 if pipe.transformer.config.guidance_embeds else 256}
    elif "Inpaint" in kind:  # any image, all of it masked
        more = {"image": torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0)),
                "mask_image": torch.ones(1, 1, height, width), "strength": 1.0}
    out = pipe(prompts, latents=packed(x) if of_flux else x, num_inference_steps=steps, guidance_scale=guidance,
               height=height, width=width, output_type="latent", **more).images
    return unpacked(out, x.shape[2] // 2, x.shape[3] // 2) if of_flux else out
