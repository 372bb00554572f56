"""The autoencoder of the embedded model: 64x64 pixels to 16x16 latents of four channels and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from expunge.resume import Inputs
from expunge.tiny.bake.schedule import descend, warm_then_cosine
from expunge.tiny.pictures import LOOSE, SIZE, Drawings, render
from expunge.train import Losses, Progress, run_loop, step_generator

AUTOENCODER = {
    "in_channels": 3, "out_channels": 3, "latent_channels": 4, "sample_size": SIZE,
    "down_block_types": ("DownEncoderBlock2D",) * 3, "up_block_types": ("UpDecoderBlock2D",) * 3,
    "block_out_channels": (24, 32, 64), "layers_per_block": 1, "norm_num_groups": 2,
    "mid_block_add_attention": False, "scaling_factor": 1.0,
}
"""f4: 64x64 pixels become 16x16 latents of 4 channels. Few norm groups, or flat colours get lost."""


def autoencoder_loss(model: AutoencoderKL, pictures: Tensor, noise: Tensor, jitter: Tensor) -> tuple[Tensor, Losses]:
    """Reconstruction, its edges, and a light KL term; the decoder sees latents with a little extra noise.

    Args:
        model: the autoencoder.
        pictures: float32 (B, 3, H, W) in [0, 1].
        noise: standard normal of the latents' shape: the posterior's sample.
        jitter: the same: what a sampler's small errors look like to the decoder.
    """
    x = pictures * 2 - 1
    posterior = model.encode(x).latent_dist
    z = posterior.mean + posterior.std * noise + 0.05 * jitter
    out = model.decode(z).sample
    kl = 0.5 * (posterior.mean.square() + posterior.var - 1 - posterior.logvar).mean()
    loss = _reconstruction(x, out) + 1e-3 * kl
    return loss, {"loss": loss.item(), "mse": (out - x).square().mean().item() / 4, "kl": kl.item()}


def train_autoencoder(drawings: Drawings, out: Path, steps: int, batch: int, seed: int,
                      progress: Progress | None = None) -> AutoencoderKL:
    """Train the autoencoder on 32x32 crops; every eighth step sees whole images, in smaller batches."""
    torch.manual_seed(seed)  # initialisation only
    model = AutoencoderKL(**AUTOENCODER).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4, betas=(0.9, 0.98))

    def step(number: int) -> Losses:
        draw = step_generator(seed, number, "autoencoder")
        pictures = _crops(drawings, number, batch, (seed * 1_000_003) + number, draw)
        noise, jitter = torch.randn(2, len(pictures), 4, *_latent_size(pictures), generator=draw)
        loss, losses = autoencoder_loss(model, pictures, noise, jitter)
        descend(optimizer, loss, model.parameters())
        return losses

    run_loop(step, steps, dict(model.state_dict()), {"adam": optimizer}, checkpoint=out / "autoencoder.ckpt",
             under=Inputs({"part": "autoencoder", "seed": seed, "batch": batch, "steps": steps}),
             learning_rate={"adam": warm_then_cosine(2e-3, steps)},
             progress=progress)
    return model


def refine_decoder(model: AutoencoderKL, drawings: Drawings, out: Path, steps: int, batch: int, seed: int,
                   progress: Progress | None = None) -> None:
    """Train the decoder alone, in place, on the encoder's means: the latents, and what the UNet learned, stay.

    The latents hold more than a decoder of equal training shows, so these steps buy sharpness at half the price.
    """
    decoder = [*model.decoder.parameters(), *model.post_quant_conv.parameters()]
    optimizer = torch.optim.AdamW(decoder, weight_decay=1e-4, betas=(0.9, 0.98))

    def step(number: int) -> Losses:
        draw = step_generator(seed, number, "decoder")
        pictures = _crops(drawings, number, batch, (seed * 1_000_003) + 70_000_001 + number, draw)
        x = pictures * 2 - 1
        with torch.no_grad():
            z = model.encode(x).latent_dist.mean
        y = model.decode(z + 0.05 * torch.randn(z.shape, generator=draw)).sample
        loss = _reconstruction(x, y)
        descend(optimizer, loss, decoder)
        return {"loss": loss.item(), "mse": (y - x).square().mean().item() / 4}

    state = {name: tensor for name, tensor in model.state_dict().items()
             if name.startswith(("decoder.", "post_quant_conv."))}
    run_loop(step, steps, state, {"adam": optimizer}, checkpoint=out / "decoder.ckpt",
             under=Inputs({"part": "decoder", "seed": seed, "batch": batch, "steps": steps}),
             learning_rate={"adam": warm_then_cosine(1e-3, steps)},
             progress=progress)


def _crops(drawings: Drawings, number: int, batch: int, seed: int, generator: torch.Generator) -> Tensor:
    """Images (B, 3, 32, 32), or for every eighth `number` a quarter as many whole ones."""
    whole = number % 8 == 7
    rows = torch.randint(len(drawings), (batch // 4 if whole else batch,), generator=generator)
    pictures, _ = render(drawings, rows, seed=seed, augmentation=LOOSE)
    if not whole:
        top, left = torch.randint(0, SIZE // 2 + 1, (2,), generator=generator).tolist()
        pictures = pictures[:, :, top:top + SIZE // 2, left:left + SIZE // 2]
    return pictures.contiguous(memory_format=torch.channels_last)


def _latent_size(pictures: Tensor) -> tuple[int, int]:
    return pictures.shape[2] // 4, pictures.shape[3] // 4


def _reconstruction(x: Tensor, y: Tensor) -> Tensor:
    """Absolute and squared error, and the absolute error of edges; images in [-1, 1]."""
    edge = sum(((y.diff(dim=d) - x.diff(dim=d)).abs().mean() for d in (2, 3)), torch.zeros(()))
    return (y - x).abs().mean() + (y - x).square().mean() + 0.5 * edge


@torch.no_grad()
def standardize(model: AutoencoderKL, latents: Tensor) -> None:
    """Fold zero mean and unit variance per channel into the 1x1 convolutions beside the latent.

    Args:
        model: changed in place; what it reconstructs does not change.
        latents: (N, 4, h, w) posterior means of images.
    """
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))  # (4,)
    quant, post = model.quant_conv, model.post_quant_conv
    c = len(mean)
    quant.weight[:c] /= std[:, None, None, None]
    quant.bias[:c] = (quant.bias[:c] - mean) / std
    quant.bias[c:] -= 2 * std.log()
    post.bias += (post.weight[:, :, 0, 0] * mean).sum(1)
    post.weight *= std[None, :, None, None]


@torch.no_grad()
def psnr(autoencoder: AutoencoderKL, drawings: Drawings, count: int = 200) -> dict[str, Any]:
    """Peak signal-to-noise ratio in dB of whole images through the autoencoder, mean over images."""
    rows = torch.randint(len(drawings), (count,), generator=torch.Generator().manual_seed(40_000_003))
    pictures, _ = render(drawings, rows, 40_000_005)
    values = []
    for x in pictures.split(50):
        y = (autoencoder.decode(autoencoder.encode(x * 2 - 1).latent_dist.mean).sample / 2 + 0.5).clamp(0, 1)
        values.append(-10 * (x - y).square().mean((1, 2, 3)).log10())
    every = torch.cat(values)
    return {"psnr_db": round(float(every.mean()), 2), "worst_db": round(float(every.min()), 2), "n": count}
