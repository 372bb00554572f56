"""What every family does that is made of a diffusers pipeline: takes over its parts, exchanges them, goes to pixels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from typing import Any

from torch import Tensor, nn
from typing_extensions import Self

from expunge.errors import ModelError
from expunge.models.autoencoder import decoded, encoded, factor_of
from expunge.models.text import TextEncoder
from expunge.models.wrapped import unwrapped


class FromDiffusers:
    """Parts of a pipeline, its autoencoder among them as "vae".

    Attributes:
        components, texts: as `models.base.Denoiser` has them; a family sets `texts`.
        factor: pixels per latent on a side.
        beside: channels that the network is told beside the noisy latents.
    """

    texts: tuple[TextEncoder, ...]
    beside = 0

    def __init__(self, pipe: Any, names: Iterable[str]) -> None:
        """Take over the parts of these names; what was put around them (compilation, adapters) is looked through."""
        self.components: Mapping[str, Any] = {name: unwrapped(getattr(pipe, name)) for name in names}
        self.factor = factor_of(self.components["vae"])

    def with_components(self, components: Mapping[str, nn.Module]) -> Self:
        """The same with some components exchanged."""
        twin = copy(self)
        twin.components = {**self.components, **components}
        twin.texts = tuple(encoder.with_module(twin.components[encoder.name]) for encoder in self.texts)
        return twin

    def told(self, x_t: Tensor) -> Tensor:
        """The network's input for latents (B, c, h, w), with what else it is told along the channels."""
        return x_t

    def decode(self, z: Tensor) -> Tensor:
        """Latents to pixels."""
        return decoded(self.components["vae"], z)

    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """Pixels to the posterior's mean."""
        return encoded(self.components["vae"], pixels)


_CHANNELS = {5: "a depth model, which needs a depth map", 7: "an upscaling model, which needs a small image",
             8: "an editing model, which needs an image", 9: "an inpainting model, which needs an image and a mask"}
"""What UNets with so many input channels over 4 of latents are, beside the prompt."""


def check_channels(unet: Any, vae: Any, beside: int = 0) -> None:
    """ModelError: a UNet that takes other channels than latents and `beside` more."""
    channels, latents = unet.config.in_channels, vae.config.latent_channels
    if channels == latents + beside:
        return
    what = f": {_CHANNELS[channels]} beside the prompt" if latents == 4 and channels in _CHANNELS else ""
    how = "its folder names another kind of pipeline: correct _class_name in model_index.json" if latents == 4 and \
        channels in (4, 9) else ""
    raise ModelError(f"a UNet of {channels} input channels over {latents} latent channels{what}",
                     accepted="an inpainting UNet, which is told a mask and an image" if beside else
                     "text-to-image models (no depth or upscaling; inpainting in a folder of its own pipeline)",
                     remedy=how)


def sides(size: Any) -> tuple[int, int]:
    """Height and width of a config's `sample_size`, one number or two."""
    height, width = (size, size) if isinstance(size, int) else size
    return height, width
