"""What a model is: hashes of its weights, as they are and rounded, and one digest of all else that it computes by.

| what | holds | changes with |
| --- | --- | --- |
| `hash` | values of all parameters, as float32 | a weight |
| `process` | prediction and noise schedule, in words | what the weights were trained for |
| `parts` | architectures, buffers, tokenizer | what the model makes of a text and of a latent |
| `drawing` | parts, process, sampler's grid, number types, device | anything else that changes an image |

`hash` holds values and no number type: weights in float16 and the same ones written in float32 are one model, in one
file or in shards. Values are cast and hashed piece by piece, from the files where these hold them
(`models.in_files`), and float32 holds every value of the smaller types.

`parts` and `drawing` begin with the number of their scheme ("2-..."); what was recorded under an earlier scheme, which
left out most of the tokenizer, cannot be compared with it. What does not change an image is left out: names of
folders, versions, dropout, and what is only read while training.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from expunge.files import text_digest
from expunge.models.base import Denoiser
from expunge.models.hashing import tensors_hash
from expunge.models.reading import reading
from expunge.models.scope import full_name

SCHEME = 2
"""Of `parts` and `drawing`. Scheme 1 had no number: 16 hex digits."""
HALVES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
"""Number types in which copies of a model are published beside float32."""

_IDLE_TEXT = {
    "architectures", "dtype", "torch_dtype", "transformers_version", "attention_dropout", "dropout",
    "initializer_factor", "initializer_range", "bos_token_id", "eos_token_id", "pad_token_id", "projection_dim",
    "chunk_size_feed_forward", "id2label", "label2id", "output_attentions", "output_hidden_states", "return_dict",
    "problem_type", "is_encoder_decoder", "task_specific_params", "tokenizer_class", "prefix"}
"""Of a text encoder's config: bookkeeping, training, and the pooled state, which is not read."""
_IDLE = {"dropout", "sample_size", "force_upcast"}
"""Of the other configs: the size of images is the sampler's, number types are chosen on loading."""


def parts_digest(model: Denoiser, stored: Mapping[str, Tensor] | None = None) -> str:
    """Digest of what the parts compute by, beside parameters: "2-" and 16 hex digits.

    `stored`: tensors as the files hold them, by full name; in memory they may be rounded.
    """
    named = {role: [name for name in model.components if model.roles[name] == role]
             for role in ("denoiser", "text", "autoencoder")}
    network = model.components[named["denoiser"][0]]
    parts: dict[str, Any] = {name: _config(model.components[name]) for name in named["denoiser"] + named["autoencoder"]}
    for number, encoder in enumerate(model.texts):
        behind = f"_{number + 1}" if number else ""
        parts |= {f"text{behind}": _text_config(encoder.module, bool(encoder.pooled)),
                  f"reads{behind}": reading(encoder.tokenizer, encoder.length)}
    parts |= {"null": model.null} if model.null != "empty" else {}  # schemes began where there was no other
    parts |= {"size": _sizes(network), "buffers": [
        _buffers(name, model.components[name], stored or {}) for role in named.values() for name in role]}
    return scheme_digest(parts)


def scheme_digest(parts: Any) -> str:
    """Digest of anything JSON-able under the present scheme."""
    return f"{SCHEME}-{text_digest(json.dumps(parts, sort_keys=True, default=str))[:16]}"


def former_digest(model: Denoiser, rest: Sequence[Any]) -> str:
    """`drawing` under scheme 1, by which records of older versions go on: of the tokenizer the vocabulary alone.

    "" for a family that older versions did not know.

    Args:
        rest: what stands behind parts and schedule: number types, device.
    """
    if model.family != "Stable Diffusion":
        return ""
    plain = lambda config: {key: value for key, value in config.items() if not key.startswith("_")}
    unet, text_encoder, vae = (_config_of(model.components[name]) for name in ("unet", "text_encoder", "vae"))
    text = {key: value for key, value in text_encoder.to_dict().items()
            if key not in {"dtype", "torch_dtype", "transformers_version"}}
    (encoder,) = model.texts
    parts = [plain(unet), plain(vae), plain(text), json.loads(encoder.tokenizer.backend_tokenizer.to_str())["model"],
             encoder.length, vae.scaling_factor, *model.process.identity, *rest]
    return text_digest(json.dumps(parts, sort_keys=True, default=str))[:16]


def stored_half(tensors: Mapping[str, Tensor]) -> str:
    """The smaller number type that holds every value exactly: the one in which they were stored; "" if neither does."""
    left = dict(HALVES)
    for tensor in tensors.values():
        left = {kind: half for kind, half in left.items()
                if tensor.dtype == half or bool((tensor.to(half).to(tensor.dtype) == tensor).all())}
        if not left:
            return ""
    return next(iter(left))


def rounded_hash(tensors: Mapping[str, Tensor], kind: str) -> str:
    """Content hash of the values rounded to `kind`, one of `HALVES`: a copy in that type has the same."""
    return tensors_hash(tensors, HALVES[kind])


def value_hash(tensors: Mapping[str, Tensor]) -> str:
    """Content hash of the values as float32, whatever type they are in."""
    return tensors_hash(tensors, torch.float32)


def _config_of(part: nn.Module) -> Any:
    """The part's config; one without is told by its buffers and the shapes of its parameters alone."""
    return getattr(part, "config", None)


def _config(part: nn.Module) -> dict[str, Any]:
    """A diffusers config without its bookkeeping (names of folders, versions)."""
    config = _config_of(part) or {}
    return {key: value for key, value in config.items() if not key.startswith("_") and key not in _IDLE}


def _sizes(network: nn.Module) -> Any:
    """The model's own size, where nobody asks for another."""
    return getattr(_config_of(network), "sample_size", None)


def _text_config(encoder: nn.Module, pooled: bool) -> dict[str, Any]:
    """The config; where the pooled state is read, with the end token, at which CLIP takes it."""
    config, idle = _config_of(encoder), _IDLE_TEXT - ({"eos_token_id"} if pooled else set())
    settings = config.to_dict() if config is not None else {}
    return {key: value for key, value in settings.items() if not key.startswith("_") and key not in idle}


def _buffers(component: str, part: nn.Module, stored: Mapping[str, Tensor]) -> str:
    """Hash of what a part holds beside parameters and what it makes by itself; fractions as float32."""
    mine = {name for name, _ in part.named_parameters(remove_duplicate=False)}
    held = {name: stored[full] if (full := full_name(component, name)) in stored else value
            for name, value in part.state_dict().items() if name not in mine}
    return tensors_hash({name: value.float() if value.is_floating_point() else value for name, value in held.items()})
