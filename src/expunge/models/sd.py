"""Stable Diffusion 1.x and 2.x (epsilon and v-prediction) behind `models.base.Denoiser`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from diffusers import StableDiffusionPipeline
from torch import Tensor

from expunge.errors import ModelError
from expunge.models.base import Guidance, Null, Role
from expunge.models.conditioning import Conditioning
from expunge.models.encoders import ClipTextEncoder
from expunge.models.from_diffusers import FromDiffusers, check_channels, sides
from expunge.models.process import process_of
from expunge.models.schedule import variance_preserving
from expunge.models.scope import UNET
from expunge.models.text import TextEncoder, Tokens


class StableDiffusion(FromDiffusers):
    """A diffusers `StableDiffusionPipeline`, with DDIM on its own schedule."""

    family = "Stable Diffusion"
    roles: Mapping[str, Role] = {"unet": "denoiser", "text_encoder": "text", "vae": "autoencoder"}
    scopes = UNET
    entry = "xattn.kv"
    places: Mapping[int, int] = {0: 0}
    null: Null = "empty"
    guided: Guidance = "classifier-free"
    pipeline: type[Any] = StableDiffusionPipeline

    def __init__(self, pipe: Any) -> None:
        """Take over the parts of `pipe`, which need not be on one device or of one number type.

        Raises:
            ModelError: another family or prediction, or a schedule that the prediction cannot start from.
        """
        self._check_family(pipe)
        super().__init__(pipe, self.roles)
        self.process = process_of(*variance_preserving(pipe.scheduler))
        unet, encoder = self.components["unet"], self.components["text_encoder"]
        self.multiple = self.factor
        self.latent_shape: tuple[int, int, int] = (pipe.vae.config.latent_channels, *sides(unet.config.sample_size))
        self.texts: tuple[TextEncoder, ...] = (ClipTextEncoder("text_encoder", encoder, pipe.tokenizer),)

    def condition(self, tokens: Sequence[Tokens], embeddings: Mapping[int, Tensor]) -> Conditioning:
        """Text states float32 (B, T, D), and the tokens' ids, which the UNet is not told."""
        return Conditioning({**self.texts[0].read(tokens[0], embeddings.get(0)), "ids": tokens[0].ids})

    def predict(self, x_t: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """The UNet's output, float32 (B, c, h, w)."""
        unet = self.components["unet"]
        where = next(unet.parameters())
        out: Tensor = unet(self.told(x_t).to(where.dtype), t.to(where.device), cond.states.to(where.dtype),
                           return_dict=False)[0]
        return out.float()

    def _check_family(self, pipe: Any) -> None:
        if not isinstance(pipe, self.pipeline):
            raise ModelError(f"a {type(pipe).__name__}",
                             accepted=f"{self.pipeline.__name__} (Stable Diffusion 1.x and 2.x)")
        if getattr(pipe.unet.config, "addition_embed_type", None) is not None:
            raise ModelError(f"a UNet that is told {pipe.unet.config.addition_embed_type} too: another family's",
                             accepted="Stable Diffusion 1.x and 2.x's own UNet")
        check_channels(pipe.unet, pipe.vae, self.beside)
