"""What the header of an exported file says of itself: modelspec 1.0.1, kohya's keys for LoRAs, and our own.

All values are text. None is a prompt, a concept's name or a place on the machine that wrote it.

Source: Stability-AI/ModelSpec 1.0.1; kohya-ss library/sai_model_spec.py and library/train_util.py. Differs: the
architectures' names of inpainting models end in "-inpainting", which neither source has.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path

from torch import Tensor

from expunge import runtime
from expunge.exports.base import Base
from expunge.files import text_digest
from expunge.models.patch import Patch
from expunge.models.shareable import HEADER
from expunge.models.store import hub_id

_CODE = {"stable-diffusion-v1": "https://github.com/CompVis/stable-diffusion",
         "stable-diffusion-v2": "https://github.com/Stability-AI/stablediffusion",
         "stable-diffusion-xl": "https://github.com/Stability-AI/generative-models",
         "stable-diffusion-3": "https://github.com/Stability-AI/sd3-ref",
         "flux": "https://github.com/black-forest-labs/flux"}
"""Reference implementations, by how the architecture's name begins."""
_KOHYA = {"stable-diffusion-v1": "sd_v1", "stable-diffusion-v2-512": "sd_v2", "stable-diffusion-v2-768-v": "sd_v2_v",
          "stable-diffusion-xl": "sdxl_base_v1-0", "stable-diffusion-3.5-large": "sd3.5-large",
          "stable-diffusion-3.5-medium": "sd3.5-medium", "stable-diffusion-3": "sd3", "flux": "flux1"}
"""kohya's ss_base_model_version, by the same."""


def architecture(base: Base) -> str:
    """The architecture's name as modelspec has it ("stable-diffusion-xl-v1-base")."""
    config = getattr(base.module(base.network), "config", {})
    ending = "-inpainting" if "Inpaint" in base.kind else ""
    if base.kind == "FluxPipeline":
        return "flux-1-dev" if config.get("guidance_embeds") else "flux-1-schnell"
    if base.kind == "StableDiffusion3Pipeline":
        if config.get("qk_norm") is None:
            return "stable-diffusion-3-medium"
        return f"stable-diffusion-3.5-{'medium' if config.get('dual_attention_layers') else 'large'}"
    if "XL" in base.kind:
        return f"stable-diffusion-xl-v1-base{ending}"
    if config.get("cross_attention_dim") != 1024:
        return f"stable-diffusion-v1{ending}"
    return f"stable-diffusion-v2-{'768-v' if _predicts(base) == 'v' else '512'}{ending}"


def about(base: Base, patch: Patch, *, out: Path, title: str = "", adapter: str = "", implementation: str = "",
          spectrum: str = "") -> dict[str, str]:
    """The header's entries for one file; the hash of its tensors comes in when these are written.

    Args:
        out: what the file is called. title: for people; "" is the file's name.
        adapter: behind the architecture's name ("lora"). implementation: "" is the family's reference code.
        spectrum: how factors were cut, in words.
    """
    made = architecture(base)
    code = implementation or next(url for start, url in _CODE.items() if made.startswith(start))
    height, width = base.model.size
    entries = {
        "modelspec.sai_model_spec": "1.0.1", "modelspec.architecture": f"{made}/{adapter}" if adapter else made,
        "modelspec.implementation": code, "modelspec.title": title or out.stem,
        "modelspec.description": "Edited by expunge: content was taken out of the base model.",
        "modelspec.date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "modelspec.resolution": f"{width}x{height}"}
    if predicts := _predicts(base):
        entries["modelspec.prediction_type"] = predicts
    scope = patch.card.settings.get("scope")
    return entries | {
        "expunge.version": runtime.versions()["expunge"], "expunge.method": patch.card.method,
        "expunge.base_sha256": base.model.hash, HEADER: patch.hash,
        "expunge.record_sha256": card_digest(patch),
        **({"expunge.scope": scope} if isinstance(scope, str) else {}),
        **({"expunge.spectrum": spectrum} if spectrum else {})}


def of_kohya(base: Base, tensors: Mapping[str, Tensor], out: Path) -> dict[str, str]:
    """What tools for kohya's LoRAs read: base, largest rank and alpha of the factors in the file, and its name.

    A base is named by its id on the Hub; one that lies here, or has LoRAs merged into it, is not named.
    """
    made, public = architecture(base), "" if base.source.loras else hub_id(base.source.model)
    ranks = [len(value) for key, value in tensors.items() if key.endswith(".lora_down.weight")]
    alphas = [float(value) for key, value in tensors.items() if key.endswith(".alpha")]
    return {"ss_network_module": "networks.lora",
            **({"ss_network_dim": str(max(ranks)), "ss_network_alpha": f"{max(alphas):.9g}"} if ranks else {}),
            "ss_network_args": json.dumps({}), "ss_v2": str(made.startswith("stable-diffusion-v2")),
            "ss_base_model_version": next(name for start, name in _KOHYA.items() if made.startswith(start)),
            **({"ss_sd_model_name": public} if public else {}), "ss_output_name": out.stem,
            "ss_training_comment": "edited by expunge, not trained on images"}


def card_digest(patch: Patch) -> str:
    """sha256 of the patch's card as the patch's own folder has it (`patch.json`)."""
    return text_digest(patch.card.model_dump_json(indent=2) + "\n")


def _predicts(base: Base) -> str:
    """ "epsilon" or "v" of a UNet; "" of a flow, for which modelspec has no word."""
    if base.network != "unet":
        return ""
    return "v" if base.model.process.description.startswith("v") else "epsilon"
