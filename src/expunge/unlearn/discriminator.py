"""A patch discriminator over latents: each of its few outputs judges one patch of a prediction.

Convolutions of stride 2 halve the sides until they are 4 or less, one more gives a logit per patch: 3 x 3 of them for
latents of 64 x 64 (four halvings) as for 16 x 16 (two).

Source: Isola et al. 2017 (pix2pix), PatchGAN; DoCo's gan.py (ebf6ff4), of the same shape at 64 x 64. Differs: group
normalisation by default, for batches of one label each tell a batch normalisation which label they have; may be told t
and x_t.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from expunge.config import Settings, knob
from expunge.train import step_generator

_WIDEST = 8
"""Most channels, in units of the width."""
_GROUPS = 8


class Discriminator(Settings):
    """The discriminator's shape and how it learns (Adam)."""

    width: int = knob(64, "Channels of the first convolution; each halving doubles them, up to 8 times", multiple_of=8,
                      ge=8, source="DoCo: 64")
    norm: Literal["group", "batch"] = knob("group", "Normalisation", source="DoCo: batch")
    time: bool = knob(False, "Tell it the time, as one more channel", source="DoCo: no")
    input: bool = knob(False, "Tell it x_t: it then judges how a prediction fits its input", source="DoCo: no")
    learning_rate: float = knob(1e-4, "Adam's step size", gt=0.0, source="DoCo: 5e-4 for styles, else 1e-4")
    beta1: float = knob(0.5, "Adam's memory of the gradient", ge=0.0, lt=1.0, source="DoCo")

    def new(self, latent_shape: tuple[int, int, int], seed: int, device: torch.device) -> PatchDiscriminator:
        """A frozen discriminator for latents of (c, h, w); the same for the same seed, and no other draw is touched."""
        with torch.random.fork_rng():  # torch starts layers from the global generator
            torch.manual_seed(step_generator(seed, 0, "discriminator").initial_seed())
            return PatchDiscriminator(self, latent_shape).requires_grad_(False).to(device)

    def optimizer(self, discriminator: PatchDiscriminator) -> torch.optim.Adam:
        """Adam over its parameters."""
        return torch.optim.Adam(discriminator.parameters(), lr=self.learning_rate, betas=(self.beta1, 0.999))


class PatchDiscriminator(nn.Module):
    """Logits of "this is a prediction for the anchor", one per patch."""

    def __init__(self, settings: Discriminator, latent_shape: tuple[int, int, int]) -> None:
        super().__init__()
        c, h, w = latent_shape
        self._time, self._input = settings.time, settings.input
        channels = c + settings.time + c * settings.input
        layers: list[nn.Module] = []
        side, out = min(h, w), settings.width
        while not layers or side > 4:
            layers.append(nn.Conv2d(channels, out, 4, stride=2, padding=1))
            if side < min(h, w):  # the first one's outputs stay as they are
                layers.append(_normalised(settings.norm, out))
            layers.append(nn.LeakyReLU(0.2))
            channels, side = out, side // 2
            out = min(2 * out, _WIDEST * settings.width)
        self.layers = nn.Sequential(*layers, nn.Conv2d(channels, 1, 4, padding=1))

    def forward(self, prediction: Tensor, x_t: Tensor, time: Tensor) -> Tensor:
        """Logits (B, 1, h', w').

        Args:
            prediction, x_t: (B, c, h, w). time: (B,) in [-1, 1].
        """
        inputs = [prediction]
        if self._time:
            inputs.append(time.view(-1, 1, 1, 1).expand(-1, 1, *prediction.shape[2:]))
        if self._input:
            inputs.append(x_t)
        logits: Tensor = self.layers(torch.cat(inputs, 1))
        return logits


def _normalised(norm: str, channels: int) -> nn.Module:
    # Batch statistics are always those of the batch at hand: there are none to be checkpointed.
    return nn.GroupNorm(_GROUPS, channels) if norm == "group" else nn.BatchNorm2d(channels, track_running_stats=False)
