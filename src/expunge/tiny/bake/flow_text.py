"""The two text encoders of the flow model, of different widths, with tokenizers of different vocabularies.

The transformer reads the states before the last layer and, beside them, the projected state at the end of the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from expunge.tiny.bake.readings import Readings, ids_of

LENGTH = 28
"""Tokens of a prompt, with its beginning and end. The longest caption of the world has 24, and attacks add a few."""
SECOND_VOCABULARY = 2304
SECOND_WIDTH = 96


def first_encoder(clip: CLIPModel) -> CLIPTextModelWithProjection:
    """CLIP's text tower with one more layer, which changes nothing.

    So the states before the last layer are those that CLIP trained, and the projected state is CLIP's own.
    """
    config = clip.config.text_config.to_dict()
    depth = config["num_hidden_layers"]
    config |= {"num_hidden_layers": depth + 1, "max_position_embeddings": LENGTH, "projection_dim":
               clip.config.projection_dim}
    encoder = CLIPTextModelWithProjection(CLIPTextConfig(**config))
    own = encoder.state_dict()
    known = {key: value[:LENGTH] if "position_embedding" in key else value
             for key, value in clip.state_dict().items() if key in own}
    encoder.load_state_dict(own | known)
    idle = encoder.text_model.encoder.layers[depth]
    for layer in (idle.self_attn.out_proj, idle.mlp.fc2):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    return encoder.float().eval()


def second_config(vocabulary: int) -> CLIPTextConfig:
    """A narrower tower of six layers; ids of the special tokens as in CLIP (the last two)."""
    return CLIPTextConfig(
        vocab_size=vocabulary, hidden_size=SECOND_WIDTH, intermediate_size=4 * SECOND_WIDTH, num_hidden_layers=6,
        num_attention_heads=4, projection_dim=SECOND_WIDTH, max_position_embeddings=LENGTH,
        bos_token_id=vocabulary - 2, eos_token_id=vocabulary - 1, pad_token_id=vocabulary - 1)


def told_at_end(encoder: Any, ids: Tensor) -> tuple[Tensor, Tensor]:
    """The projected state (B, D) of each text, and the state (B, D) at its end before the last layer, which is what the
    transformer reads.
    """
    out = encoder(input_ids=ids, output_hidden_states=True)
    ends = (ids == encoder.config.eos_token_id).int().argmax(1)
    return out.text_embeds, out.hidden_states[-2][torch.arange(len(ids)), ends]


@torch.no_grad()
def read(encoders: Sequence[tuple[CLIPTokenizer, Any]], texts: Sequence[str]) -> Readings:
    """Readings fp16 of `texts`, as `StableDiffusion3Pipeline` makes them: both encoders' side by side."""
    outs = [[encoder(input_ids=part, output_hidden_states=True) for part in ids_of(tokenizer, texts).split(256)]
            for tokenizer, encoder in encoders]
    states, pooled = ([torch.cat([pick(out) for out in mine]) for mine in outs]
                      for pick in (lambda out: out.hidden_states[-2], lambda out: out.text_embeds))
    return Readings(torch.cat(states, 2).half(), torch.cat(pooled, 1).half())
