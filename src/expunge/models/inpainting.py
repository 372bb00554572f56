"""Inpainting networks of Stable Diffusion 1, 2 and XL, drawn without an image: all of it is masked.

Beside the noisy latents (B, c, h, w) such a UNet is told a mask (B, 1, h, w), 1 where it draws, and the latents of the
image with the masked part in grey (B, c, h, w). With a mask of ones there is nothing left of any image: what is drawn
is drawn from the prompt alone, as by any text-to-image model.

Source: diffusers, `StableDiffusionInpaintPipeline` and `StableDiffusionXLInpaintPipeline` at strength 1 with a white
mask. Differs: the grey image's latents are the posterior's mean, where the pipelines draw from the posterior.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import StableDiffusionInpaintPipeline, StableDiffusionXLInpaintPipeline
from torch import Tensor, nn
from typing_extensions import Self

from expunge.models.from_diffusers import FromDiffusers
from expunge.models.sd import StableDiffusion
from expunge.models.sdxl import StableDiffusionXL

MASKED = "inpainting (the whole image masked)"
"""What records say of how such a model is drawn, behind the family's name."""
_GREY = 0.5


class _AllMasked(FromDiffusers):
    """What both families add to their networks' input."""

    beside = 5
    _hidden: dict[tuple[int, int], Tensor]

    def __init__(self, pipe: Any, *names: Any) -> None:
        super().__init__(pipe, *names)
        self._hidden = {}

    def with_components(self, components: Mapping[str, nn.Module]) -> Self:
        """The same with some components exchanged, its autoencoder perhaps."""
        twin = super().with_components(components)
        twin._hidden = {}
        return twin

    def told(self, x_t: Tensor) -> Tensor:
        """(B, c + 1 + c, h, w): the latents, a mask of ones, and the latents of a grey image."""
        B, _, h, w = x_t.shape
        hidden = self._grey(h, w).to(x_t).expand(B, -1, -1, -1)
        return torch.cat([x_t, x_t.new_ones(B, 1, h, w), hidden], 1)

    @torch.no_grad()
    def _grey(self, h: int, w: int) -> Tensor:
        """(1, c, h, w), float32; encoded once for each size."""
        if (h, w) not in self._hidden:
            where = next(self.components["vae"].parameters()).device
            pixels = torch.full((1, 3, h * self.factor, w * self.factor), _GREY, device=where)
            self._hidden[h, w] = self.encode_pixels(pixels)
        return self._hidden[h, w]


class StableDiffusionInpainting(_AllMasked, StableDiffusion):
    """A diffusers `StableDiffusionInpaintPipeline` whose UNet is told a mask and an image."""

    family = f"{StableDiffusion.family}, {MASKED}"
    pipeline = StableDiffusionInpaintPipeline


class StableDiffusionXLInpainting(_AllMasked, StableDiffusionXL):
    """A diffusers `StableDiffusionXLInpaintPipeline` whose UNet is told a mask and an image."""

    family = f"{StableDiffusionXL.family}, {MASKED}"
    pipeline = StableDiffusionXLInpaintPipeline
