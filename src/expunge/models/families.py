"""Which pipelines expunge takes over, by the class that a folder's `model_index.json` names; and why not others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from expunge.errors import ModelError
from expunge.models.base import Denoiser
from expunge.models.flux import Flux
from expunge.models.inpainting import StableDiffusionInpainting, StableDiffusionXLInpainting
from expunge.models.sd import StableDiffusion
from expunge.models.sd3 import StableDiffusion3
from expunge.models.sdxl import StableDiffusionXL


@dataclass(frozen=True)
class Family:
    """How a pipeline becomes a model.

    Attributes:
        make: takes over the pipeline's parts.
        weighed: components without whose weights there is no model. optional: those that may be missing.
        title: for people. guidance: scale at which diffusers draws it where nobody asks for another.
        note: what is said whenever such a model is opened; "" for nothing.
    """

    make: Callable[..., Denoiser]
    weighed: tuple[str, ...]
    title: str
    guidance: float
    optional: tuple[str, ...] = ()
    note: str = ""


_SD, _SDXL = ("unet", "vae", "text_encoder"), ("unet", "vae", "text_encoder", "text_encoder_2")
_ALL_MASKED = ("an inpainting model: it is drawn, edited and measured with the whole image masked, which leaves "
               "the prompt alone to draw from; how it fills a part of an image is not looked at")
FAMILIES: Mapping[str, Family] = {
    "StableDiffusionPipeline": Family(
        StableDiffusion, _SD, "Stable Diffusion 1.x and 2.x", 7.5),
    "StableDiffusionXLPipeline": Family(
        StableDiffusionXL, _SDXL, "Stable Diffusion XL", 5.0),
    "StableDiffusionInpaintPipeline": Family(
        StableDiffusionInpainting, _SD, "Stable Diffusion 1.x and 2.x inpainting", 7.5, note=_ALL_MASKED),
    "StableDiffusionXLInpaintPipeline": Family(
        StableDiffusionXLInpainting, _SDXL, "Stable Diffusion XL inpainting", 7.5, note=_ALL_MASKED),
    "StableDiffusion3Pipeline": Family(
        StableDiffusion3, ("transformer", "vae", "text_encoder", "text_encoder_2"), "Stable Diffusion 3 and 3.5", 7.0,
        optional=("text_encoder_3", "tokenizer_3")),
    "FluxPipeline": Family(Flux, ("transformer", "vae", "text_encoder", "text_encoder_2"), "FLUX.1", 3.5),
}
"""By the pipeline's class."""

_LANGUAGE = "a language model with a chat template as its text encoder"
_WANTING: Mapping[str, str] = {
    "Flux2Pipeline": f"{_LANGUAGE}, stored latent statistics and fused projections",
    "Flux2KleinPipeline": f"{_LANGUAGE}, stored latent statistics and fused projections",
    "QwenImagePipeline": f"{_LANGUAGE}, a video autoencoder and guidance rescaled per token",
    "ZImagePipeline": f"{_LANGUAGE}, and prompts of varying length without padding",
    "Lumina2Pipeline": f"{_LANGUAGE}, and guidance rescaled to a norm",
    "SanaPipeline": f"{_LANGUAGE}, and an autoencoder of another kind",
    "PixArtAlphaPipeline": "T5 with masks, and a network that predicts its variance too",
    "PixArtSigmaPipeline": "T5 with masks, and a network that predicts its variance too",
    "StableDiffusionXLImg2ImgPipeline": "an image to start from (a refiner goes on from the base model's)",
    "StableDiffusionDepth2ImgPipeline": "a depth map beside the prompt",
    "FluxFillPipeline": "an image and a mask beside the prompt",
    "FluxControlPipeline": "an image beside the prompt",
    "StableDiffusionUpscalePipeline": "a small image beside the prompt",
    "StableDiffusionInstructPix2PixPipeline": "an image beside the prompt",
    "ChromaPipeline": "T5 with masks, and guidance by a network of its own",
}
"""Pipelines that are not taken over, and what they need that is not here."""


def family_of(kind: str, where: str) -> Family:
    """The family of a pipeline's class.

    Raises:
        ModelError: another one; `where` says whose it is.
    """
    if kind in FAMILIES:
        return FAMILIES[kind]
    raise ModelError(f"{where} holds a {kind}{wanting(kind)}",
                     accepted="; ".join(f"{name} ({family.title})" for name, family in FAMILIES.items()))


def wanting(kind: str) -> str:
    """": it needs ..." of a pipeline that is not taken over; "" where nobody looked."""
    return f": it needs {_WANTING[kind]}" if kind in _WANTING else ""
