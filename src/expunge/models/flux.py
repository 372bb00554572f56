"""FLUX.1 (dev and schnell) behind `models.base.Denoiser`.

T5 tells the transformer what is drawn; of CLIP only the pooled state is read. Latents of 2 by 2 are one token. The
guidance of dev is a number that the network is told; schnell takes none. Where nobody says a number (a loss, a teacher)
dev is told 1, as in published training scripts: at the 3.5 of images, differences come out amplified.

Source: Black Forest Labs 2024; diffusers, `FluxPipeline`. Differs: true classifier-free guidance is not there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from expunge.models.base import Guidance, Null, Role
from expunge.models.conditioning import Conditioning
from expunge.models.encoders import ClipTextEncoder, T5TextEncoder
from expunge.models.from_diffusers import FromDiffusers
from expunge.models.joint_attention import DOUBLE_AND_SINGLE
from expunge.models.process import Velocity
from expunge.models.schedule import FlowMatch
from expunge.models.text import TextEncoder, Tokens

LENGTHS = {True: 512, False: 256}
"""Most tokens that T5 is given, by whether the network is told its guidance: of dev and of schnell."""
_PATCH = 2


class Flux(FromDiffusers):
    """A diffusers `FluxPipeline`."""

    family = "FLUX.1"
    roles: Mapping[str, Role] = {"transformer": "denoiser", "text_encoder": "text", "text_encoder_2": "text",
                                 "vae": "autoencoder"}
    scopes = DOUBLE_AND_SINGLE
    entry = "entry"
    places: Mapping[int, int] = {0: 0}
    null: Null = "empty"

    def __init__(self, pipe: Any, length: int | None = None) -> None:
        """Take over the parts of `pipe`; `length` is T, the tokens that T5 is given (None: as in `LENGTHS`, or as few
        as its config says in `n_positions`).

        Raises:
            ModelError: a scheduler that does not go straight from noise to clean.
        """
        super().__init__(pipe, self.roles)
        config = self.components["transformer"].config
        self.guided: Guidance = "embedded" if config.guidance_embeds else "none"
        self.multiple = self.factor * _PATCH
        # The pipeline's size is a constant; a model made for smaller images says so in its autoencoder's config.
        side = min(pipe.default_sample_size, self.components["vae"].config.sample_size // self.factor)
        self.latent_shape: tuple[int, int, int] = (config.in_channels // _PATCH**2, side, side)
        self.process = Velocity(FlowMatch(pipe.scheduler, _PATCH, self.latent_shape[1:], evenly=True))
        longest = getattr(self.components["text_encoder_2"].config, "n_positions", max(LENGTHS.values()))
        # T5 first: its states are what the image is drawn from, so its tokens are what attacks search.
        self.texts: tuple[TextEncoder, ...] = (
            T5TextEncoder("text_encoder_2", self.components["text_encoder_2"], pipe.tokenizer_2,
                          length or min(longest, LENGTHS[config.guidance_embeds])),
            ClipTextEncoder("text_encoder", self.components["text_encoder"], pipe.tokenizer, pooled="pooler_output"))

    def condition(self, tokens: Sequence[Tokens], embeddings: Mapping[int, Tensor]) -> Conditioning:
        """T5's states float32 (B, T, D) and ids, CLIP's pooled state (B, P)."""
        t5, clip = (encoder.read(mine, embeddings.get(place))
                    for place, (encoder, mine) in enumerate(zip(self.texts, tokens, strict=True)))
        return Conditioning({"states": t5["states"], "pooled": clip["pooled"], "ids": tokens[0].ids})

    def predict(self, x_t: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """The transformer's velocity, float32 (B, c, h, w)."""
        transformer = self.components["transformer"]
        where = next(transformer.parameters())
        height, width = (side // _PATCH for side in x_t.shape[-2:])
        guidance = cond.rows.get("guidance", x_t.new_ones(len(x_t))) if self.guided == "embedded" else None
        out: Tensor = transformer(
            hidden_states=packed(x_t).to(where.dtype), timestep=t.to(where).expand(len(x_t)) / 1000, guidance=guidance,
            encoder_hidden_states=cond.states.to(where.dtype), pooled_projections=cond.rows["pooled"].to(where.dtype),
            txt_ids=where.new_zeros(cond.states.shape[1], 3), img_ids=positions(height, width).to(where),
            return_dict=False)[0]
        return unpacked(out.float(), height, width)


def packed(x: Tensor) -> Tensor:
    """(B, c, 2 h, 2 w) latents as tokens (B, h w, 4 c): channels first, then rows and columns of the patch."""
    B, c, height, width = x.shape
    patches = x.view(B, c, height // _PATCH, _PATCH, width // _PATCH, _PATCH).permute(0, 2, 4, 1, 3, 5)
    return patches.reshape(B, -1, c * _PATCH**2)


def unpacked(tokens: Tensor, height: int, width: int) -> Tensor:
    """The way back, of tokens (B, height * width, 4 c)."""
    patches = tokens.view(len(tokens), height, width, -1, _PATCH, _PATCH).permute(0, 3, 1, 4, 2, 5)
    return patches.reshape(len(tokens), -1, height * _PATCH, width * _PATCH)


def positions(height: int, width: int) -> Tensor:
    """Of an image's tokens, (height * width, 3): nothing, row, column of each token."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([torch.zeros_like(rows), rows, columns], 2).reshape(-1, 3)
