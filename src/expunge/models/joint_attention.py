"""What families with joint attention share: scopes of transformers in which text and image attend to each other.

There is no cross-attention: each block has text projections of its own (`add_k_proj`, `add_v_proj`) beside those of the
image, and both streams attend to all. FLUX has single blocks too, in which text and image share all weights. Past the
first block the text stream has seen the image, so only the entry reads text states as they are.

| scope | what | Stable Diffusion's counterpart |
| --- | --- | --- |
| `attn`, `xattn` | all layers of joint attention, single blocks included | esd-x |
| `attn.double`, `attn.single` | those of either kind of block | |
| `text.kv`, `xattn.kv`, `xattn.k`, `xattn.v` | `add_k_proj` and `add_v_proj`, both or one | esd-x-strict |
| `noxattn` | everything else | esd-u |
| `entry` | `context_embedder`, which all text states enter through | UCE |
| `pooled` | `text_embedder`, which the pooled state enters through | UCE |
| `modulation` | layers that scale and shift by time and pooled state | |
"""

from __future__ import annotations

from collections.abc import Mapping

from expunge.models.scope import Rule

_TEXT_KEY, _TEXT_VALUE = "add_k_proj", "add_v_proj"


def _attention(path: list[str]) -> bool:
    return "attn" in path


def _single(path: list[str]) -> bool:
    return path[0] == "single_transformer_blocks" and "attn" in path


JOINT: Mapping[str, Rule] = {
    "attn": _attention,
    "attn.double": lambda path: path[0] == "transformer_blocks" and "attn" in path,
    "text.kv": lambda path: path[-1] in (_TEXT_KEY, _TEXT_VALUE),
    "entry": lambda path: path == ["context_embedder"],
    "pooled": lambda path: path[:2] == ["time_text_embed", "text_embedder"],
    "modulation": lambda path: path[-1] == "linear" and path[-2].startswith("norm"),
    "xattn": _attention,
    "xattn.kv": lambda path: path[-1] in (_TEXT_KEY, _TEXT_VALUE),
    "xattn.k": lambda path: path[-1] == _TEXT_KEY,
    "xattn.v": lambda path: path[-1] == _TEXT_VALUE,
    "noxattn": lambda path: not _attention(path),
}
"""Scopes of Stable Diffusion 3's transformer."""
DOUBLE_AND_SINGLE: Mapping[str, Rule] = {**JOINT, "attn.single": _single}
"""Scopes of FLUX's."""
