"""Between pixels and latents through a diffusers autoencoder: scale, shift and stored statistics in one place.

    z = (mean - shift) scale, or per channel z = (mean - mu) scale / sigma where the config holds statistics

Pixels are float32 (B, 3, H, W) in [0, 1], latents float32 (B, c, h, w) as the denoiser expects them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


def decoded(vae: Any, z: Tensor) -> Tensor:
    """Latents to pixels."""
    centre, spread = _statistics(vae, z)
    with _wide(vae):
        pixels = vae.decode((z / spread + centre).to(vae.dtype), return_dict=False)[0]
    out: Tensor = (pixels.float() / 2 + 0.5).clamp(0, 1)
    return out


def encoded(vae: Any, pixels: Tensor) -> Tensor:
    """Pixels to the posterior's mean."""
    with _wide(vae):
        mean: Tensor = vae.encode((pixels * 2 - 1).to(vae.dtype)).latent_dist.mean.float()
    centre, spread = _statistics(vae, mean)
    out: Tensor = (mean - centre) * spread
    return out


def factor_of(vae: Any) -> int:
    """Pixels per latent on a side."""
    return int(2 ** (len(vae.config.block_out_channels) - 1))


def _statistics(vae: Any, like: Tensor) -> tuple[Any, Any]:
    """What is taken from the posterior's mean, and what it is multiplied by then: numbers, or tensors (1, c, 1, 1)."""
    config = vae.config
    scale, mean, deviation = config.scaling_factor, config.get("latents_mean"), config.get("latents_std")
    if mean is None or deviation is None:
        return config.get("shift_factor") or 0.0, scale
    centre, spread = (torch.tensor(values, device=like.device).view(1, -1, 1, 1) for values in (mean, deviation))
    return centre, scale / spread


@contextmanager
def _wide(vae: Any) -> Iterator[None]:
    """Inside, an autoencoder whose values are too large for float16 computes in float32, if it is known for that."""
    narrow = vae.dtype == torch.float16 and bool(vae.config.get("force_upcast")) and _overflows(vae)
    if narrow:
        vae.to(torch.float32)
    try:
        yield
    finally:
        if narrow:
            vae.to(torch.float16)


def _overflows(vae: Any) -> bool:
    """Whether it is Stable Diffusion XL's: every autoencoder's config says `force_upcast` if nobody wrote otherwise."""
    return bool(abs(vae.config.scaling_factor - 0.13025) < 1e-6)
