"""Stable Diffusion XL (base, and what was distilled from it: Turbo, Lightning) behind `models.base.Denoiser`.

Two text encoders of one vocabulary, their states side by side; a pooled state; and the image's size in six numbers,
of which the crop is always none.

Source: Podell et al. 2023; diffusers, `StableDiffusionXLPipeline`. Differs: the sampler is DDIM, which is Euler's
method in other coordinates; an image's original size is the size that is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from expunge.errors import ModelError
from expunge.models.base import Guidance, Null, Role
from expunge.models.conditioning import Conditioning
from expunge.models.encoders import ClipTextEncoder
from expunge.models.from_diffusers import FromDiffusers, check_channels, sides
from expunge.models.process import process_of
from expunge.models.schedule import variance_preserving
from expunge.models.scope import UNET, Rule
from expunge.models.text import TextEncoder, Tokens


class StableDiffusionXL(FromDiffusers):
    """A diffusers `StableDiffusionXLPipeline`."""

    family = "Stable Diffusion XL"
    roles: Mapping[str, Role] = {"unet": "denoiser", "text_encoder": "text", "text_encoder_2": "text",
                                 "vae": "autoencoder"}
    scopes: Mapping[str, Rule] = {**UNET, "pooled": lambda path: path[0] == "add_embedding"}
    entry = "xattn.kv"
    places: Mapping[int, int] = {0: 0, 1: 0}
    guided: Guidance = "classifier-free"

    def __init__(self, pipe: Any) -> None:
        """Take over the parts of `pipe`.

        Raises:
            ModelError: a refiner, or a UNet that is told its guidance.
        """
        super().__init__(pipe, self.roles)
        unet, vae = self.components["unet"], self.components["vae"]
        _check(unet, vae, self.beside)
        self.process = process_of(*variance_preserving(pipe.scheduler))
        self.null: Null = "zeros" if pipe.config.get("force_zeros_for_empty_prompt", True) else "empty"
        self.multiple = self.factor
        self.latent_shape: tuple[int, int, int] = (vae.config.latent_channels, *sides(unet.config.sample_size))
        self.texts: tuple[TextEncoder, ...] = (
            ClipTextEncoder("text_encoder", self.components["text_encoder"], pipe.tokenizer, penultimate=True),
            ClipTextEncoder("text_encoder_2", self.components["text_encoder_2"], pipe.tokenizer_2, penultimate=True,
                            pooled="text_embeds"))

    def condition(self, tokens: Sequence[Tokens], embeddings: Mapping[int, Tensor]) -> Conditioning:
        """States float32 (B, T, D + D'), the pooled state (B, P), and the first encoder's ids."""
        first, second = (encoder.read(mine, embeddings.get(place))
                         for place, (encoder, mine) in enumerate(zip(self.texts, tokens, strict=True)))
        return Conditioning({"states": torch.cat([first["states"], second["states"]], 2), "pooled": second["pooled"],
                             "ids": tokens[0].ids})

    def predict(self, x_t: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """The UNet's output, float32 (B, c, h, w)."""
        unet = self.components["unet"]
        where = next(unet.parameters())
        height, width = (side * self.factor for side in x_t.shape[-2:])
        size = torch.tensor([height, width, 0, 0, height, width], device=where.device, dtype=where.dtype)
        more = {"text_embeds": cond.rows["pooled"].to(where.dtype), "time_ids": size.repeat(len(x_t), 1)}
        out: Tensor = unet(self.told(x_t).to(where.dtype), t.to(where.device), cond.states.to(where.dtype),
                           added_cond_kwargs=more, return_dict=False)[0]
        return out.float()


def _check(unet: Any, vae: Any, beside: int) -> None:
    check_channels(unet, vae, beside)
    if unet.config.addition_embed_type != "text_time":
        raise ModelError(f"a UNet that is told {unet.config.addition_embed_type or 'no size and no pooled state'}",
                         accepted="Stable Diffusion XL's own UNet")
    if unet.config.time_cond_proj_dim is not None:
        raise ModelError("a UNet that is told its guidance (a latent consistency model)",
                         accepted="Stable Diffusion XL, Turbo or Lightning")
    if unet.add_embedding.linear_1.in_features == 5 * unet.config.addition_time_embed_dim + 1280:
        raise ModelError("Stable Diffusion XL's refiner, which only goes on from another model's images",
                         accepted="Stable Diffusion XL base, Turbo or Lightning")
