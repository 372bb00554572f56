"""Stable Diffusion 1.x and 2.x (epsilon and v-prediction) behind `models.base.Denoiser`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from torch import Tensor, nn

from expunge.errors import ModelError
from expunge.models.base import Guidance, Null, Role
from expunge.models.conditioning import Conditioning
from expunge.models.process import VariancePreserving, process_of
from expunge.models.scope import UNET
from expunge.models.text import ClipTextEncoder, TextEncoder, Tokens
from expunge.models.wrapped import unwrapped


class StableDiffusion:
    """A diffusers `StableDiffusionPipeline`, with DDIM on its own schedule."""

    family = "Stable Diffusion"
    roles: Mapping[str, Role] = {"unet": "denoiser", "text_encoder": "text", "vae": "autoencoder"}
    scopes = UNET
    null: Null = "empty"
    guided: Guidance = "classifier-free"

    def __init__(self, pipe: Any) -> None:
        """Take over the parts of `pipe`, which need not be on one device or of one number type.

        Raises:
            ModelError: another family or prediction, or a schedule that the prediction cannot start from.
        """
        _check_family(pipe)
        self.components: Mapping[str, Any] = {name: unwrapped(getattr(pipe, name)) for name in self.roles}
        # The latents are no pictures, so they are never clipped, whatever a scheduler's default says.
        ddim = DDIMScheduler.from_config(pipe.scheduler.config, clip_sample=False, thresholding=False)
        self.process = process_of(ddim.config.prediction_type, VariancePreserving(ddim))
        unet, vae, encoder = self.components["unet"], self.components["vae"], self.components["text_encoder"]
        self.factor = 2 ** (len(vae.config.block_out_channels) - 1)
        side = unet.config.sample_size
        height, width = (side, side) if isinstance(side, int) else side
        self.latent_shape: tuple[int, int, int] = (unet.config.in_channels, height, width)
        length = min(pipe.tokenizer.model_max_length, encoder.config.max_position_embeddings)
        self.texts: tuple[TextEncoder, ...] = (ClipTextEncoder("text_encoder", encoder, pipe.tokenizer, length),)

    def with_components(self, components: Mapping[str, nn.Module]) -> StableDiffusion:
        """The same with some components exchanged."""
        twin = copy(self)
        twin.components = {**self.components, **components}
        twin.texts = tuple(encoder.with_module(twin.components[encoder.name]) for encoder in self.texts)
        return twin

    def condition(self, tokens: Sequence[Tokens], embeddings: Mapping[int, Tensor]) -> Conditioning:
        """Text states float32 (B, T, D), and the tokens' ids, which the UNet is not told."""
        return Conditioning({**self.texts[0].read(tokens[0], embeddings.get(0)), "ids": tokens[0].ids})

    def predict(self, x_t: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """The UNet's output, float32 (B, c, h, w)."""
        unet = self.components["unet"]
        where = next(unet.parameters())
        out: Tensor = unet(x_t.to(where.dtype), t.to(where.device), cond.states.to(where.dtype), return_dict=False)[0]
        return out.float()

    def decode(self, z: Tensor) -> Tensor:
        """Latents to pixels."""
        vae = self.components["vae"]
        pixels = vae.decode((z / vae.config.scaling_factor).to(_dtype(vae)), return_dict=False)[0]
        out: Tensor = (pixels.float() / 2 + 0.5).clamp(0, 1)
        return out

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Pixels to the posterior's mean."""
        vae = self.components["vae"]
        mean: Tensor = vae.encode((pixels * 2 - 1).to(_dtype(vae))).latent_dist.mean.float()
        scaled: Tensor = mean * vae.config.scaling_factor
        return scaled


def _dtype(part: nn.Module) -> torch.dtype:
    return next(part.parameters()).dtype


def _check_family(pipe: Any) -> None:
    if not isinstance(pipe, StableDiffusionPipeline):
        raise ModelError(f"a {type(pipe).__name__}",
                         accepted="StableDiffusionPipeline (Stable Diffusion 1.x and 2.x)")
    channels, latents = pipe.unet.config.in_channels, pipe.vae.config.latent_channels
    if channels != latents:
        raise ModelError(f"a UNet of {channels} input channels over {latents} latent channels",
                         accepted="text-to-image models (no inpainting, depth or upscaling)")
