"""Single files as other tools write them, made from pipelines: the way back of `models.original`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch


def written(state: Mapping[str, Any], place: Callable[[str], Any], prefix: str = "") -> dict[str, Any]:
    """A component's tensors under the keys and in the stacks of its original layout."""
    stacks: dict[str, dict[int, Any]] = {}
    for name, tensor in state.items():
        where = place(name)
        value = tensor.T if where.transposed else tensor.roll(len(tensor) // 2, 0) if where.swapped else tensor
        stacks.setdefault(prefix + where.key, {})[99 if where.nth == -1 else where.nth or 0] = value
    return {key: torch.cat([parts[nth] for nth in sorted(parts)]).clone().contiguous()
            for key, parts in stacks.items()}


def state_of(module: Any) -> dict[str, Any]:
    return {name: value for name, value in module.state_dict().items() if name != "encoder.embed_tokens.weight"}


def _vae(pipe: Any, prefix: str) -> dict[str, Any]:
    from expunge.models.original import ldm_vae

    out = written(state_of(pipe.vae), ldm_vae(pipe.vae.config), prefix)
    return {key: value[:, :, None, None] if ".attn_1." in key and value.dim() == 2 else value
            for key, value in out.items()}


def _sd(pipe: Any, open_clip: bool = False) -> dict[str, Any]:
    from expunge.models import original

    text = (original.open_clip, "cond_stage_model.model.") if open_clip else (
        original.clip, "cond_stage_model.transformer.")
    return {**written(state_of(pipe.unet), original.ldm_unet(pipe.unet.config), "model.diffusion_model."),
            **_vae(pipe, "first_stage_model."), **written(state_of(pipe.text_encoder), *text),
            "alphas_cumprod": torch.zeros(1000), "model_ema.decay": torch.zeros(())}


def _sdxl(pipe: Any) -> dict[str, Any]:
    from expunge.models import original

    return {**written(state_of(pipe.unet), original.ldm_unet(pipe.unet.config), "model.diffusion_model."),
            **_vae(pipe, "first_stage_model."),
            **written(state_of(pipe.text_encoder), original.clip, "conditioner.embedders.0.transformer."),
            **written(state_of(pipe.text_encoder_2), original.open_clip, "conditioner.embedders.1.model."),
            "conditioner.embedders.1.model.logit_scale": torch.zeros(())}


def _sd3(pipe: Any) -> dict[str, Any]:
    from expunge.models import original

    text = {name: value for name, value in state_of(pipe.text_encoder).items() if name != "text_projection.weight"}
    out = {**written(state_of(pipe.transformer), original.sd3(pipe.transformer.config), "model.diffusion_model."),
           **_vae(pipe, "first_stage_model."),
           **written(text, original.clip, "text_encoders.clip_l.transformer."),
           **written(state_of(pipe.text_encoder_2), original.clip, "text_encoders.clip_g.transformer.")}
    if pipe.text_encoder_3 is not None:
        out |= written(state_of(pipe.text_encoder_3), original.t5, "text_encoders.t5xxl.transformer.")
    return out


def _flux(pipe: Any) -> dict[str, Any]:
    from expunge.models import original

    return {**written(state_of(pipe.transformer), original.flux, "model.diffusion_model."), **_vae(pipe, "vae."),
            **written(state_of(pipe.text_encoder), original.clip, "text_encoders.clip_l.transformer."),
            **written(state_of(pipe.text_encoder_2), original.t5, "text_encoders.t5xxl.transformer.")}


WRITERS: Mapping[str, Callable[..., dict[str, Any]]] = {
    "StableDiffusionPipeline": _sd, "StableDiffusionInpaintPipeline": _sd,
    "StableDiffusionXLPipeline": _sdxl, "StableDiffusionXLInpaintPipeline": _sdxl, "StableDiffusion3Pipeline": _sd3,
    "FluxPipeline": _flux}


def tensors_of(pipe: Any, **how: Any) -> dict[str, Any]:
    """All tensors of a whole single file."""
    return WRITERS[type(pipe).__name__](pipe, **how)


def single_file(path: Path, tensors: Mapping[str, Any]) -> Path:
    from safetensors.torch import save_file

    save_file({name: value.contiguous().clone() for name, value in tensors.items()}, path)
    return path


def bare_parts(pipe: Any, folder: Path) -> Path:
    """The pipeline's folder without any weights: configs and tokenizers, as small downloads bring them."""
    pipe.save_pretrained(folder)
    for file in folder.glob("*/*.safetensors"):
        file.unlink()
    return folder
