"""The transformers that the flow baker knows: as in Stable Diffusion 3.5, and as in FLUX.1 dev; both made small."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import torch
from diffusers import FluxTransformer2DModel, SD3Transformer2DModel
from diffusers.models.attention_processor import JointAttnProcessor2_0
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from expunge.models.flux import packed, positions, unpacked
from expunge.models.repeated import JointAttention
from expunge.tiny.bake.readings import Readings

SD3: dict[str, Any] = {
    "sample_size": 16, "patch_size": 2, "in_channels": 4, "out_channels": 4, "num_layers": 6,
    "attention_head_dim": 64, "num_attention_heads": 4, "caption_projection_dim": 256, "pos_embed_max_size": 16,
    "qk_norm": "rms_norm",
}
"""64 image tokens; queries and keys are normalised as in 3.5. The widths of the text are those of the encoders."""
FLUX: dict[str, Any] = {
    "patch_size": 1, "in_channels": 16, "num_layers": 6, "num_single_layers": 1, "attention_head_dim": 64,
    "num_attention_heads": 4, "axes_dims_rope": (32, 16, 16), "guidance_embeds": True,
}
"""64 image tokens of 2 by 2 latents; double blocks as many and as wide as above; it is told its guidance, as dev. Half
of each head does not turn with the position, so that it can begin with blocks that know of no turning."""
EMPTY_TOKENS = 256
"""Zeros that `StableDiffusion3Pipeline` reads in the place of T5."""


class Network(Protocol):
    """A transformer that is trained.

    Attributes:
        model: the module.
        guided: whether it is told its guidance.
    """

    model: nn.Module
    guided: bool

    def velocity(self, x: Tensor, s: Tensor, told: Readings, guidance: Tensor) -> Tensor:
        """The velocity (B, c, h, w) at x (B, c, h, w) and times s (B,) from 0 to 1; guidance (B,) reaches it if it is
        told any.
        """
        ...

    def attention(self) -> AbstractContextManager[None]:
        """Inside, attention is computed in the way that is fastest over few tokens."""
        ...


class StableDiffusion3Network:
    """`SD3Transformer2DModel`; one token of zeros stands for all of T5's."""

    guided = False

    def __init__(self, text: int, pooled: int, **changed: Any) -> None:
        self.model = passing(SD3Transformer2DModel(
            **{**SD3, "joint_attention_dim": text, "pooled_projection_dim": pooled, **changed}))

    def velocity(self, x: Tensor, s: Tensor, told: Readings, guidance: Tensor) -> Tensor:
        """See `Network`."""
        behind = told.states.new_zeros(len(x), 1, told.states.shape[2])
        out: Tensor = self.model(hidden_states=x, timestep=s * 1000, pooled_projections=told.pooled,
                                 encoder_hidden_states=torch.cat([told.states, behind], 1),
                                 joint_attention_kwargs={"last_counts": EMPTY_TOKENS}, return_dict=False)[0]
        return out

    @contextmanager
    def attention(self) -> Iterator[None]:
        """A processor that knows of equal tokens, put on for the while."""
        self.model.set_attn_processor(JointAttention(fused=False))
        try:
            yield
        finally:
            self.model.set_attn_processor(JointAttnProcessor2_0())


class FluxNetwork:
    """`FluxTransformer2DModel`, which is told its guidance.

    In bfloat16 it rounds its times to 1/256 of themselves, as FLUX does in that type.
    """

    guided = True

    def __init__(self, text: int, pooled: int, **changed: Any) -> None:
        self.model = passing(FluxTransformer2DModel(
            **{**FLUX, "joint_attention_dim": text, "pooled_projection_dim": pooled, **changed}))

    def velocity(self, x: Tensor, s: Tensor, told: Readings, guidance: Tensor) -> Tensor:
        """See `Network`."""
        height, width = (side // 2 for side in x.shape[-2:])
        out: Tensor = self.model(
            hidden_states=packed(x), timestep=s, guidance=guidance, encoder_hidden_states=told.states,
            pooled_projections=told.pooled, txt_ids=s.new_zeros(told.states.shape[1], 3),
            img_ids=positions(height, width).to(s), return_dict=False)[0]
        return unpacked(out, height, width)

    def attention(self) -> AbstractContextManager[None]:
        """Plain products."""
        return sdpa_kernel(SDPBackend.MATH)


def passing(model: Any) -> Any:
    """A fresh transformer made to predict 0 and to pass all through: its gates and its last layer are zero.

    Source: Peebles and Xie 2023 (adaLN-Zero). Diffusers leaves the initialisation to the caller.
    """
    for name, module in model.named_modules():
        if name == "proj_out" or (name.endswith("linear") and "norm" in name):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    return model
