"""A folder of OpenCLIP's (open_clip_config.json, open_clip_model.safetensors) as transformers' CLIP.

OpenCLIP itself is not needed.

Both are the same network under other names:

    visual.transformer.resblocks.3.mlp.c_fc.weight    vision_model.encoder.layers.3.mlp.fc1.weight
    transformer.resblocks.3.attn.in_proj_weight       text_model.encoder.layers.3.self_attn.{q,k,v}_proj.weight
    visual.proj, text_projection                      their transposes

Only plain vision transformers with a plain text tower are taken. Anything else that a config may ask for is refused by
its name, for it would be drawn as another network.

Source: mlfoundations/open_clip 3.3.0, names and defaults of its model configurations. Differs: on the same random
weights (3 blocks of images, 2 of texts; with quick_gelu and with gelu) features are its own to 1e-6 of images and
exactly of texts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from expunge import untrusted
from expunge.errors import ModelError

CONFIG, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
_MEAN, _DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""What OpenCLIP normalises with where its config does not say."""
_KNOWN = {"model_cfg": {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"},
          "vision_cfg": {"image_size", "layers", "width", "head_width", "mlp_ratio", "patch_size", "patch_dropout"},
          "text_cfg": {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"},
          "preprocess_cfg": {"size", "mode", "mean", "std", "interpolation", "resize_mode", "fill_color"}}
_USUAL = {"interpolation": "bicubic", "resize_mode": "shortest", "mode": "RGB"}
_FIXED = {"visual.conv1": "vision_model.embeddings.patch_embedding",
          "visual.class_embedding": "vision_model.embeddings.class_embedding",
          "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
          "visual.ln_pre": "vision_model.pre_layrnorm", "visual.ln_post": "vision_model.post_layernorm",
          "visual.proj": "visual_projection.weight", "text_projection": "text_projection.weight",
          "positional_embedding": "text_model.embeddings.position_embedding.weight",
          "token_embedding": "text_model.embeddings.token_embedding", "ln_final": "text_model.final_layer_norm",
          "logit_scale": "logit_scale"}
_IN_BLOCK = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2",
             "attn.out_proj": "self_attn.out_proj"}
_TURNED = ("visual.proj", "text_projection")


@dataclass(frozen=True)
class Opened:
    """A CLIP: transformers' model, and what images are normalised with."""

    model: Any
    mean: tuple[float, ...]
    deviation: tuple[float, ...]


def is_open_clip(folder: Path) -> bool:
    """Whether a folder is OpenCLIP's and not transformers' as well (the Hub has many that are both)."""
    others = [file for file in folder.glob("*.safetensors") if file.name != WEIGHTS]
    return (folder / CONFIG).is_file() and not ((folder / "config.json").is_file() and others)


def read_open_clip(folder: Path) -> Opened:
    """The network of a folder.

    Raises:
        ModelError: its weights are a pickle, are missing, or have other tensors than the config says; a config that
            asks for what is none of transformers' CLIP.
    """
    from transformers import CLIPConfig, CLIPModel

    config = _read(folder)
    if not (folder / WEIGHTS).is_file():
        there = ", ".join(sorted(file.name for file in folder.iterdir())[:8])
        raise ModelError(f"no {WEIGHTS} in {folder} ({there})", accepted="weights as safetensors",
                         remedy="pickled weights (.bin, .pt) are never read; convert them to safetensors first")
    preparation = config.get("preprocess_cfg", {})
    _check(folder, config, preparation)
    model = CLIPModel(CLIPConfig(**_config(config["model_cfg"])))
    named = transformers_names(untrusted.all_tensors(folder / WEIGHTS))
    wanted = model.state_dict()
    odd = sorted(wanted.keys() ^ named.keys()) or [
        name for name, value in named.items() if value.shape != wanted[name].shape]
    if odd:
        raise ModelError(f"{folder / WEIGHTS} has other tensors than its config says: {', '.join(odd[:4])}"
                         f"{', ...' if odd[4:] else ''}", accepted="the weights of the network of the config")
    model.load_state_dict(named)
    return Opened(model, tuple(preparation.get("mean", _MEAN)), tuple(preparation.get("std", _DEVIATION)))


def _read(folder: Path) -> dict[str, Any]:
    try:
        config = untrusted.mapping_of(folder / CONFIG)
        if not isinstance(config.get("model_cfg"), dict) or not isinstance(config.get("preprocess_cfg", {}), dict):
            raise untrusted.Unreadable("it describes no network")
    except OSError as error:
        raise ModelError(f"{folder / CONFIG} cannot be read: {error}", remedy="fetch the folder again") from error
    return config


def transformers_names(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """OpenCLIP's tensors under transformers' names; names that neither has stay as they are."""
    out: dict[str, Tensor] = {}
    for name, value in weights.items():
        short = name.removeprefix("text.")  # of a text tower that is a part of its own
        if short == "attn_mask":  # the causal mask, which is no weight
            continue
        block = re.fullmatch(r"(visual\.)?transformer\.resblocks\.(\d+)\.(.+)", short)
        if block:
            tower = "vision_model" if block[1] else "text_model"
            out |= _block(f"{tower}.encoder.layers.{block[2]}", block[3], value)
            continue
        part, dot, leaf = short.rpartition(".")
        known = _FIXED.get(short) or (f"{_FIXED[part]}.{leaf}" if dot and part in _FIXED else name)
        out[known] = value.T.contiguous() if short in _TURNED else value
    return out


def _block(layer: str, name: str, value: Tensor) -> dict[str, Tensor]:
    """A tensor of a transformer's block; queries, keys and values are stacked in OpenCLIP."""
    if name in ("attn.in_proj_weight", "attn.in_proj_bias"):
        leaf = name.rpartition("_")[2]
        return {f"{layer}.self_attn.{which}_proj.{leaf}": part.contiguous()
                for which, part in zip("qkv", value.chunk(3), strict=True)}
    part, _, leaf = name.rpartition(".")
    return {f"{layer}.{_IN_BLOCK.get(part, part)}.{leaf}": value}


def _check(folder: Path, config: Mapping[str, Any], preparation: Mapping[str, Any]) -> None:
    model = config.get("model_cfg")
    parts: dict[str, Any] = {"model_cfg": model, "preprocess_cfg": preparation}
    if isinstance(model, Mapping):
        parts |= {name: model.get(name) for name in ("vision_cfg", "text_cfg")}
    missing = [name for name, part in parts.items() if not isinstance(part, Mapping)]
    if missing:
        raise ModelError(f"{folder / CONFIG} has no {', '.join(missing)}", accepted="a config as OpenCLIP writes it")
    odd = [f"{name}.{key}" for name, known in _KNOWN.items() for key, value in parts[name].items()
           if key not in known and value not in (None, False)]
    odd += [f"preprocess_cfg.{key} {preparation[key]}" for key, usual in _USUAL.items()
            if preparation.get(key, usual) != usual]
    if not isinstance(parts["vision_cfg"].get("layers"), int):
        odd.append("a ResNet as image tower")
    if odd:
        raise ModelError(f"{folder / CONFIG} asks for what transformers' CLIP has not: {', '.join(odd)}",
                         accepted="a plain vision transformer (ViT-B-32, ViT-L-14, ViT-H-14, ...) with its text tower")


def _config(model: Mapping[str, Any]) -> dict[str, Any]:
    """transformers' settings; defaults are OpenCLIP's."""
    vision, text = model["vision_cfg"], model["text_cfg"]
    act = "quick_gelu" if model.get("quick_gelu") else "gelu"
    words = int(text.get("vocab_size", 49408))
    shared = {"hidden_act": act, "layer_norm_eps": 1e-5, "projection_dim": model["embed_dim"]}
    width, text_width = int(vision.get("width", 768)), int(text.get("width", 512))
    return {"projection_dim": model["embed_dim"],
            "vision_config": {**shared, "hidden_size": width, "num_hidden_layers": vision["layers"],
                              "num_attention_heads": width // int(vision.get("head_width", 64)),
                              "intermediate_size": int(width * vision.get("mlp_ratio", 4.0)),
                              "image_size": vision.get("image_size", 224), "patch_size": vision.get("patch_size", 16)},
            "text_config": {**shared, "hidden_size": text_width, "num_hidden_layers": text.get("layers", 12),
                            "num_attention_heads": text.get("heads", 8),
                            "intermediate_size": int(text_width * text.get("mlp_ratio", 4.0)), "vocab_size": words,
                            "max_position_embeddings": text.get("context_length", 77), "bos_token_id": words - 2,
                            "eos_token_id": words - 1, "pad_token_id": words - 1}}
