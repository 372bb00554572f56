"""Stable Diffusion 3 and 3.5 behind `models.base.Denoiser`.

Two CLIP encoders side by side, padded with zeros to the width of T5, whose states follow behind theirs: (B, 77 + 256,
4096). T5 may be missing, and zeros take its place, which the transformer reads as one token that counts for all of
them: that changes nothing but the time. The pooled state is both CLIPs'.

Source: Esser et al. 2024; diffusers, `StableDiffusion3Pipeline`. Differs: guidance that skips layers is not there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers.models.attention_processor import JointAttnProcessor2_0
from torch import Tensor
from torch.nn.functional import pad

from expunge.errors import UserError
from expunge.models.base import Guidance, Null, Role
from expunge.models.conditioning import Conditioning
from expunge.models.encoders import ClipTextEncoder, T5TextEncoder
from expunge.models.from_diffusers import FromDiffusers
from expunge.models.joint_attention import JOINT
from expunge.models.process import Velocity
from expunge.models.repeated import JointAttention
from expunge.models.schedule import FlowMatch
from expunge.models.text import TextEncoder, Tokens

T5_LENGTH = 256
"""Tokens that diffusers gives T5 where nobody asks for more."""
_CLIPS = ("text_encoder", "text_encoder_2")
_T5 = "text_encoder_3"


class StableDiffusion3(FromDiffusers):
    """A diffusers `StableDiffusion3Pipeline`."""

    family = "Stable Diffusion 3"
    scopes = JOINT
    entry = "entry"
    null: Null = "empty"
    guided: Guidance = "classifier-free"

    def __init__(self, pipe: Any, length: int = T5_LENGTH) -> None:
        """Take over the parts of `pipe`, whose T5 may be None; `length` is the tokens that T5 is given.

        Raises:
            ModelError: a scheduler that does not go straight from noise to clean.
        """
        texts = [name for name in (*_CLIPS, _T5) if getattr(pipe, name, None) is not None]
        self.roles: Mapping[str, Role] = {
            "transformer": "denoiser", **dict.fromkeys(texts, "text"), "vae": "autoencoder"}
        super().__init__(pipe, self.roles)
        config = self.components["transformer"].config
        self._width, self._length = config.joint_attention_dim, length
        self.multiple = self.factor * config.patch_size
        self.latent_shape: tuple[int, int, int] = (config.in_channels, config.sample_size, config.sample_size)
        self.process = Velocity(FlowMatch(pipe.scheduler, config.patch_size, self.latent_shape[1:], evenly=False))
        clips = [ClipTextEncoder(name, self.components[name], tokenizer, penultimate=True, pooled="text_embeds")
                 for name, tokenizer in zip(_CLIPS, (pipe.tokenizer, pipe.tokenizer_2), strict=True)]
        t5 = [T5TextEncoder(_T5, self.components[_T5], pipe.tokenizer_3, length)] if _T5 in texts else []
        self.texts: tuple[TextEncoder, ...] = (*clips, *t5)
        self.places: Mapping[int, int] = {0: 0, 1: 0, **({2: clips[0].length} if t5 else {})}
        self._zeros = 0 if t5 else length

    def condition(self, tokens: Sequence[Tokens], embeddings: Mapping[int, Tensor]) -> Conditioning:
        """States float32 (B, T + T', D), the pooled state (B, P), and the first encoder's ids."""
        one, two, *more = (encoder.read(mine, embeddings.get(place))
                           for place, (encoder, mine) in enumerate(zip(self.texts, tokens, strict=True)))
        clips = torch.cat([one["states"], two["states"]], 2)
        behind = more[0]["states"] if more else clips.new_zeros(len(clips), self._length, self._width)
        states = torch.cat([pad(clips, (0, self._width - clips.shape[2])), behind], 1)
        return Conditioning({"states": states, "pooled": torch.cat([one["pooled"], two["pooled"]], 1),
                             "ids": tokens[0].ids})

    def predict(self, x_t: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """The transformer's velocity, float32 (B, c, h, w)."""
        transformer = self.components["transformer"]
        most = transformer.config.pos_embed_max_size * transformer.config.patch_size
        if max(x_t.shape[-2:]) > most:
            sides = " x ".join(str(side * self.factor) for side in x_t.shape[-2:])
            raise UserError(f"an image of {sides} pixels",
                            accepted=f"at most {most * self.factor} on a side: the network has no more places")
        where = next(transformer.parameters())
        states, extra = cond.states.to(where.dtype), {}
        if self._zeros and self._counts(transformer):
            states, extra = states[:, :states.shape[1] - self._zeros + 1], {"last_counts": self._zeros}
        out: Tensor = transformer(
            hidden_states=x_t.to(where.dtype), timestep=t.to(where.device).expand(len(x_t)),
            encoder_hidden_states=states, pooled_projections=cond.rows["pooled"].to(where.dtype),
            joint_attention_kwargs=extra, return_dict=False)[0]
        return out.float()

    @staticmethod
    def _counts(transformer: Any) -> bool:
        """Whether its attention lets a token count for many; diffusers' own is exchanged for one that does."""
        if all(type(one) is JointAttnProcessor2_0 for one in transformer.attn_processors.values()):
            transformer.set_attn_processor(JointAttention())
        return all(type(one) is JointAttention for one in transformer.attn_processors.values())
