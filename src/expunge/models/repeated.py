"""Joint attention over text whose last token stands for many equal ones, at the cost of one.

Stable Diffusion 3 without T5 reads 256 tokens of zeros in its place. Text has no positions there, so those tokens are
equal in every layer, and attention to n equal keys is attention to one whose score is larger by log n.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class JointAttention:
    """An attention processor of `SD3Transformer2DModel`, whose last text token may count many times.

    How often is told with `joint_attention_kwargs={"last_counts": n}`; without it this is diffusers' own attention.

    Source: diffusers, `JointAttnProcessor2_0`. Differs: n equal tokens are one.
    """

    def __init__(self, fused: bool = True) -> None:
        """`fused`: by torch's kernel, which never holds all scores. Over few tokens plain products are faster."""
        self.fused = fused

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None,
                 attention_mask: Tensor | None = None, last_counts: int = 1) -> Tensor | tuple[Tensor, Tensor]:
        """Image tokens (B, N, D) alone, or with text tokens (B, T, D): both, attended to. There are no masks."""
        apart = lambda x: x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)  # (B, heads, tokens, D / heads)
        same = lambda x: x
        norm_q, norm_k = attn.norm_q or same, attn.norm_k or same
        q, k, v = (norm(apart(layer(hidden_states))) for norm, layer in
                   ((norm_q, attn.to_q), (norm_k, attn.to_k), (same, attn.to_v)))
        if encoder_hidden_states is None:
            return self._out(attn, F.scaled_dot_product_attention(q, k, v))
        added_q, added_k = attn.norm_added_q or same, attn.norm_added_k or same
        more = (norm(apart(layer(encoder_hidden_states))) for norm, layer in
                ((added_q, attn.add_q_proj), (added_k, attn.add_k_proj), (same, attn.add_v_proj)))
        q, k, v = (torch.cat(pair, 2) for pair in zip((q, k, v), more, strict=True))
        bias = q.new_zeros(1, 1, 1, k.shape[2])
        bias[..., -1] = math.log(last_counts)
        if self.fused:
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        else:
            out = (q @ (k * q.shape[-1] ** -0.5).transpose(-1, -2) + bias).softmax(-1).to(v.dtype) @ v
        images = hidden_states.shape[1]
        texts = out[:, :, images:].transpose(1, 2).flatten(2)
        return self._out(attn, out[:, :, :images]), texts if attn.context_pre_only else attn.to_add_out(texts)

    @staticmethod
    def _out(attn: Any, heads: Tensor) -> Tensor:
        out: Tensor = attn.to_out[1](attn.to_out[0](heads.transpose(1, 2).flatten(2)))
        return out
