"""What files of LoRAs call the layers of a model, in every dialect, as a table made from the model itself.

| dialect | a layer of the network | of a text encoder |
| --- | --- | --- |
| diffusers | `unet.` or `transformer.` and its path, or the path alone | `text_encoder_2.` and its path |
| kohya | `lora_unet_` and the path with `_`, in diffusers' or the original names | `lora_te1_` and so on |
| ComfyUI | `diffusion_model.` and the original name | `text_encoders.clip_l.transformer.` and its path |

Paths with `_` cannot be read back, for names have `_` in them: so all names that there can be are made, and looked up.
In original layouts a layer may be several of diffusers' side by side (queries, keys, values): its name leads to all.

Source: kohya-ss networks/lora.py and lora_flux.py; ComfyUI comfy/lora.py; diffusers, loaders/lora_conversion_utils.py.
Differs: none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from expunge.models import original
from expunge.models.base import Denoiser
from expunge.models.original import Map, Place, bare

MAPS: Mapping[str, Callable[[Any], Map]] = {
    "UNet2DConditionModel": original.ldm_unet, "SD3Transformer2DModel": original.sd3,
    "FluxTransformer2DModel": lambda config: original.flux}
"""The original layout's map, by the network's class."""
_KOHYA = {"text_encoder": ("lora_te", "lora_te1"), "text_encoder_2": ("lora_te2",), "text_encoder_3": ("lora_te3",)}
_COMFY = {"text_encoder": ("clip_l", "clip_h"), "text_encoder_2": ("clip_g",), "text_encoder_3": ("t5xxl",)}
"""ComfyUI calls the one of Stable Diffusion 2 clip_h."""
_WIDTHS = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 2048: "Stable Diffusion XL"}
"""Families with a UNet, by the width of the text states that its keys read."""

_JOINT = re.compile(r"(transformer\.|lora_unet_|lora_transformer_)?transformer_blocks[._]\d+[._]attn[._]")
"""Layers of joint attention by diffusers' names, which Stable Diffusion 3 and FLUX's double blocks share."""
_JOINT_WIDTHS = {1536: "Stable Diffusion 3", 2432: "Stable Diffusion 3", 3072: "FLUX.1"}
"""Whose they are, by the width of the states that they read."""


@dataclass(frozen=True)
class Target:
    """A layer that a name leads to: which component's, its path there, and which rows of the named layer it is."""

    component: str
    path: str
    place: Place

    def up(self, factor: Tensor, rows: int) -> Tensor:
        """The rows of a factor (out, r, ...) that belong to this layer of `rows` outputs."""
        return self.place.taken(factor, rows)


def names_of(denoiser: Denoiser) -> dict[str, tuple[Target, ...]]:
    """Every name that a file can give a layer of this model, with the layers that it leads to."""
    table: dict[str, tuple[Target, ...]] = {}
    for component, module in denoiser.components.items():
        role = denoiser.roles[component]
        if role == "autoencoder":
            continue
        for path, layer in module.named_modules():
            if not isinstance(layer, nn.Linear | nn.Conv2d):
                continue
            spellings = _network(component, path, module) if role == "denoiser" else _text(component, path, denoiser)
            for name, place in spellings:
                target = Target(component, path, place)
                before = table.get(name, ())
                if target not in before:
                    table[name] = (*before, target)
    return table


def _network(component: str, path: str, module: Any) -> Iterator[tuple[str, Place]]:
    whole = Place(path)
    yield from ((f"{component}.{path}", whole), (path, whole), (f"lora_unet_{_flat(path)}", whole))
    made = MAPS.get(type(module).__name__)
    if made is None:
        return
    place = _original(made(module.config), path)
    names = (place.key, f"diffusion_model.{place.key}", f"model.diffusion_model.{place.key}",
             f"lora_unet_{_flat(place.key)}")
    yield from ((name, place) for name in names if place.key != path)
    yield from ((name, place) for name in names[1:3] if place.key == path)


def _text(component: str, path: str, denoiser: Denoiser) -> Iterator[tuple[str, Place]]:
    flux = type(next(iter(denoiser.components.values()))).__name__ == "FluxTransformer2DModel"
    t5 = flux and component == "text_encoder_2"
    kohya = ("lora_te2", "lora_te3") if t5 else _KOHYA.get(component, ())
    comfy = ("t5xxl",) if t5 else _COMFY.get(component, (component,))
    for spelt in dict.fromkeys((path, bare(path), f"text_model.{bare(path)}")):
        yield f"{component}.{spelt}", Place(path)
        yield from ((f"text_encoders.{one}.transformer.{spelt}", Place(path)) for one in comfy)
        yield from ((f"{start}_{_flat(spelt)}", Place(path)) for start in kohya)


def _original(mapped: Map, path: str) -> Place:
    place = mapped(f"{path}.weight")
    return Place(place.key.removesuffix(".weight"), place.nth, place.of, place.swapped)


def _flat(path: str) -> str:
    return path.replace(".", "_")


def family_told(pairs: Mapping[str, Mapping[str, Tensor]], metadata: Mapping[str, str]) -> str:
    """Which family a LoRA was made for, by its layers' names and shapes, or by what its metadata say; "" if unknown."""
    names = " ".join(pairs)
    if "double_blocks" in names or "single_transformer_blocks" in names or "single_blocks" in names:
        return "FLUX.1"
    if "joint_blocks" in names:
        return "Stable Diffusion 3"
    for layer, pair in pairs.items():
        if layer.endswith(("attn2.to_k", "attn2_to_k")) and "down" in pair and pair["down"].shape[1] in _WIDTHS:
            return _WIDTHS[pair["down"].shape[1]]
    blocks = [pair for layer, pair in pairs.items() if _JOINT.match(layer)]
    wide = {pair["down"].shape[1] for pair in blocks if "down" in pair and pair["down"].dim() > 1}
    told = {_JOINT_WIDTHS[width] for width in wide if width in _JOINT_WIDTHS}
    if blocks:
        either = "" if any(layer.endswith("add_k_proj") for layer in pairs) else " or FLUX.1"
        return told.pop() if len(told) == 1 else f"Stable Diffusion 3{either}"
    return metadata.get("ss_base_model_version") or metadata.get("modelspec.architecture") or ""
