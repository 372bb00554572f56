"""What an exported file calls the layers of a model, dialect by dialect; `models.lora_names` reads all of these.

| dialect | a layer of the network | of a text encoder |
| --- | --- | --- |
| diffusers | `unet.` or `transformer.`, path | `text_encoder.text_model.`, path |
| kohya | `lora_unet_`, path: of 1 and 2 diffusers', of XL, 3 and FLUX the original one | `lora_te1_`; T5 `lora_te3_` |
| ComfyUI | `diffusion_model.`, original path | `text_encoders.clip_l.transformer.text_model.`, path |

Where a layer is one of several in a tensor of the original layout, the place says which rows are its own.

Source: kohya-ss networks/lora.py and lora_flux.py; ComfyUI comfy/lora.py. Differs: one form in each file, for diffusers
drops those of XL that are in LDM's names where both are there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import nn

from expunge.errors import UserError
from expunge.exports.base import Base
from expunge.models.lora_names import MAPS
from expunge.models.original import Place, bare

Spell = Callable[[Base, str, str], Place]
"""(base, component, path of a layer there) -> what the file calls it, and which rows of that are the layer's."""


def diffusers(base: Base, component: str, path: str) -> Place:
    """As `pipe.load_lora_weights` reads it."""
    return Place(f"{component}.{_text_path(base, component, path)}")


def kohya(base: Base, component: str, path: str) -> Place:
    """As kohya's tools write it, and A1111, Forge and ComfyUI read it."""
    if component == base.network:
        plain = base.kind in ("StableDiffusionPipeline", "StableDiffusionInpaintPipeline")
        place = Place(path) if plain else original(base, path)
        return replace(place, key=f"lora_unet_{_flat(place.key)}")
    number = "3" if _is_t5(base, component) else "" if len(base.texts) == 1 else component[-1:].replace("r", "1")
    return Place(f"lora_te{number}_{_flat(_text_path(base, component, path))}")


def comfy(base: Base, component: str, path: str) -> Place:
    """As ComfyUI calls the layers of a model that it has loaded."""
    if component == base.network:
        place = original(base, path)
        return replace(place, key=f"diffusion_model.{place.key}")
    return Place(f"text_encoders.{_encoder(base, component)}.transformer.{_text_path(base, component, path)}")


SPELLINGS: Mapping[str, Spell] = {"diffusers": diffusers, "kohya": kohya, "comfy": comfy}
"""By the dialect's name."""


def original(base: Base, path: str) -> Place:
    """Where a layer of the network lies in the layout that it was published in; the path of a tensor will do, too.

    Raises:
        UserError: a network without a map.
    """
    module = base.module(base.network)
    made = MAPS.get(type(module).__name__)
    if made is None:
        raise UserError(f"a {type(module).__name__} in its original layout", accepted=", ".join(MAPS),
                        remedy="export to a folder, or to a LoRA for diffusers")
    place = made(module.config)(f"{path}.weight")
    return replace(place, key=place.key.removesuffix(".weight"))


def totals(base: Base, spell: Spell) -> dict[str, int]:
    """Rows of every tensor that holds several layers, by what the dialect calls it."""
    rows: dict[str, int] = {}
    for path, module in base.module(base.network).named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            place = spell(base, base.network, path)
            if place.nth is not None:
                rows[place.key] = rows.get(place.key, 0) + len(module.weight)
    return rows


def why_not(base: Base, name: str, loadable: tuple[str, ...]) -> str:
    """Why a LoRA cannot carry the weight of this full name, in words; "" where it can.

    Args:
        loadable: components whose LoRA the readers of the dialect load.
    """
    component, _, path = name.partition("/")
    if component not in loadable:
        return f"of the {component}, for which this program loads no LoRA"
    layer, _, end = path.rpartition(".")
    module = module_at(base, component, layer)
    if end != "weight":
        return f"a {end}" if end == "bias" else "no weight of a layer"
    if isinstance(module, nn.Embedding):
        return "an embedding"
    if not isinstance(module, nn.Linear | nn.Conv2d):
        return f"of a {type(module).__name__}"
    return ""


def module_at(base: Base, component: str, path: str) -> nn.Module | None:
    """The layer at a path as full names have it; None where there is none."""
    modules = dict(base.module(component).named_modules())
    return modules.get(path, modules.get(f"text_model.{path}"))


def _text_path(base: Base, component: str, path: str) -> str:
    """CLIP's paths as its files have them, with "text_model." in front; others as they are."""
    if component == base.network or _is_t5(base, component) or path.startswith("text_projection"):
        return path
    return f"text_model.{bare(path)}"


def _is_t5(base: Base, component: str) -> bool:
    return type(base.module(component)).__name__.startswith("T5")


def _encoder(base: Base, component: str) -> str:
    if _is_t5(base, component):
        return "t5xxl"
    if component == "text_encoder_2":
        return "clip_g"
    wide = getattr(base.module(base.network), "config", {}).get("cross_attention_dim")
    return "clip_h" if len(base.texts) == 1 and wide == 1024 else "clip_l"


def _flat(path: str) -> str:
    return path.replace(".", "_")
