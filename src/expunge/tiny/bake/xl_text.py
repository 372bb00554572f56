"""CLIP's text tower made wider, so that its states before the last layer are what it says after its final norm.

A layer adds to what passes through it, so a norm cannot be put behind the layers: what is there already stays. But in
a wider tower there is room beside it. The first numbers of the wider states are the tower's own, with their mean taken
out, which no norm notices; the others are zero, so that every norm sees the same up to a factor. One more layer writes
the normalised states into that room. Its activation takes nothing away: u * sigmoid(a u) + u * sigmoid(-a u) = u.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection


def said_at(width: int, start: int = 0) -> slice:
    """Where in an encoder's states, which begin at `start`, the normalised ones of `width` numbers lie."""
    return slice(start + width, start + 2 * width)


@torch.no_grad()
def widened(clip: CLIPModel, width: int, projected: bool) -> CLIPTextModel | CLIPTextModelWithProjection:
    """CLIP's text tower, `width` wide and two layers deeper, float32.

    Args:
        clip: whose tower, with `quick_gelu` as its activation.
        width: at least twice the tower's, in whole attention heads.
        projected: with a projected state beside the others. It is CLIP's up to a factor and a small shift.
    """
    config = clip.config.text_config
    own, heads = config.hidden_size, config.num_attention_heads
    ratio = width / own
    wide = CLIPTextConfig(**{
        **config.to_dict(), "hidden_size": width, "num_hidden_layers": config.num_hidden_layers + 2,
        "num_attention_heads": heads * width // own, "layer_norm_eps": config.layer_norm_eps / ratio,
        "projection_dim": clip.config.projection_dim})
    encoder: Any = (CLIPTextModelWithProjection if projected else CLIPTextModel)(wide)
    tower, told = getattr(encoder, "text_model", encoder), clip.text_model
    for parameter in encoder.parameters():
        parameter.zero_()
    _embed(told.embeddings, tower.embeddings, own)
    layers = tower.encoder.layers
    for old, new in zip(told.encoder.layers, layers, strict=False):
        _copy_layer(old, new, own, ratio)
    _write_norm(told.final_layer_norm, layers[-2], own, ratio)
    tower.final_layer_norm.weight.fill_(1.0)
    if projected:
        encoder.text_projection.weight[:, said_at(own)] = clip.text_projection.weight
    return encoder.float().eval()


def _centred(tensor: Tensor) -> Tensor:
    """Without its mean over the last dimension: that of the states."""
    return tensor.float() - tensor.float().mean(-1, keepdim=True)


def _embed(old: Any, new: Any, own: int) -> None:
    for name in ("token_embedding", "position_embedding"):
        getattr(new, name).weight[:, :own] = _centred(getattr(old, name).weight)


def _copy_layer(old: Any, new: Any, own: int, ratio: float) -> None:
    """The layer on the first `own` numbers; the others pass."""
    for name in ("layer_norm1", "layer_norm2"):
        _copy_norm(getattr(old, name), getattr(new, name), own, ratio)
    for name in ("q_proj", "k_proj", "v_proj"):
        layer, wider = getattr(old.self_attn, name), getattr(new.self_attn, name)
        wider.weight[:own, :own], wider.bias[:own] = layer.weight, layer.bias
    new.mlp.fc1.weight[:, :own], new.mlp.fc1.bias[:] = old.mlp.fc1.weight, old.mlp.fc1.bias
    for layer, wider in ((old.self_attn.out_proj, new.self_attn.out_proj), (old.mlp.fc2, new.mlp.fc2)):
        wider.weight[:own, :layer.weight.shape[1]] = _centred(layer.weight.T).T
        wider.bias[:own] = _centred(layer.bias)


def _copy_norm(old: Any, new: Any, own: int, ratio: float) -> None:
    """Zeros beside the states make their variance smaller by `ratio`, and what the norm gives larger by its root."""
    new.weight[:own], new.bias[:own] = old.weight / ratio**0.5, old.bias


def _write_norm(norm: Any, layer: Any, own: int, ratio: float) -> None:
    """The layer that writes `norm` of the states into the room beside them."""
    _copy_norm(norm, layer.layer_norm2, own, ratio)
    one = torch.eye(own)
    layer.mlp.fc1.weight[:own, :own], layer.mlp.fc1.weight[own:2 * own, :own] = one, -one
    layer.mlp.fc2.weight[said_at(own), :own], layer.mlp.fc2.weight[said_at(own), own:2 * own] = one, -one
