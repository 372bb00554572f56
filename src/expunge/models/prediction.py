"""What a network's output means: one prediction told as noise, as a clean latent, or as the model itself puts it.

With signal s = sqrt(abar_t) and noise level r = sqrt(1 - abar_t), so x_t = s z + r eps and v = s eps - r z:

    epsilon:       z = (x_t - r e) / s      eps = e
    v-prediction:  z = s x_t - r v          eps = s v + r x_t

v is the pair (z, eps) turned by 90 degrees, so all of it is `Denoiser.noise` with other arguments. Nothing is clamped:
latents are no pictures. Each tensor is float32 (B, c, h, w), t int64 (B,).

Source: Salimans and Ho 2022, appendix D.
"""

from __future__ import annotations

import torch
from torch import Tensor

from expunge.models.base import Denoiser


def levels(model: Denoiser, like: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """s and r at `t`, (B, 1, 1, 1) each, on `like`'s device."""
    one = torch.ones(len(t), 1, 1, 1, device=like.device, dtype=like.dtype)
    return model.noise(one, 0 * one, t), model.noise(0 * one, one, t)


def clean(model: Denoiser, out: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """The clean latent that the output stands for; differentiable."""
    if model.prediction == "v_prediction":
        return model.noise(x_t, -out, t)
    signal, noise = levels(model, x_t, t)
    return (x_t - noise * out) / signal


def noise_in(model: Denoiser, out: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """The noise that the output stands for; differentiable."""
    return model.noise(out, x_t, t) if model.prediction == "v_prediction" else out


def output_for(model: Denoiser, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """What the network is trained to put out at x_t = s x0 + r eps: eps, or v."""
    return model.noise(eps, -x0, t) if model.prediction == "v_prediction" else eps
