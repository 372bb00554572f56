"""The denoiser of the embedded model: latents and text states are made once, then only the UNet costs anything."""

from __future__ import annotations

import itertools
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from expunge.resume import Inputs
from expunge.tiny.bake.sampling import Cells
from expunge.tiny.bake.schedule import descend
from expunge.tiny.pictures import STEADY, Drawings, render
from expunge.tiny.world import BACKGROUNDS, STYLES, THINGS, Scene, captions
from expunge.train import Losses, Progress, run_loop, step_generator

UNET = {
    "sample_size": 16, "in_channels": 4, "out_channels": 4, "cross_attention_dim": 128,
    "down_block_types": ("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    "block_out_channels": (32, 64, 128, 192), "layers_per_block": 1, "attention_head_dim": 4, "norm_num_groups": 8,
}
"""Attention only where it is cheap (4x4 and 2x2): a whole emoji fits there. `attention_head_dim` counts heads."""

SCHEDULER = {
    "num_train_timesteps": 1000, "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
    "prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "timestep_spacing": "trailing",
    "clip_sample": False, "set_alpha_to_one": True, "steps_offset": 1,
}
"""Velocity and zero terminal SNR (Lin et al. 2024): a plain background colour is decided by the first step."""

GUIDANCE = 2.0
"""At which the trained model draws best: more blurs the styles, less gives up things (`benchmarks/guidance.py`)."""

STYLE_WEIGHTS = {"3d": 2.0, "flat": 1.0, "black and white": 1.0, "pixel art": 0.7, "outlined": 2.0}
"""How often a batch takes a drawing of the style: 3d (next to flat) and outlined (few drawings) are learned last."""

CAPTIONS_PER_SCENE = 12


class LatentPool:
    """Augmented drawings as latents: `views` of each drawing on each background. fp16 (N, 4, 16, 16)."""

    def __init__(self, latents: Tensor, scenes: Tensor) -> None:
        self.latents = latents
        self.scenes = scenes  # (N, 3): object, style, background

    @classmethod
    @torch.no_grad()
    def make(cls, autoencoder: AutoencoderKL, drawings: Drawings, views: int, seed: int) -> LatentPool:
        """Encode `views` seeded augmentations of each (drawing, background)."""
        latents, scenes = [], []
        rows = torch.arange(len(drawings)).repeat_interleave(len(BACKGROUNDS))
        grounds = torch.arange(len(BACKGROUNDS)).repeat(len(drawings))
        for view in range(views):
            for start in range(0, len(rows), 128):
                part = slice(start, start + 128)
                pictures, _ = render(drawings, rows[part], seed * 7919 + view * 1_000_003 + start, grounds[part],
                                     STEADY)
                x = (pictures * 2 - 1).contiguous(memory_format=torch.channels_last)
                latents.append(autoencoder.encode(x).latent_dist.mean.half())
                scenes.append(torch.stack([drawings.objects[rows[part]], drawings.styles[rows[part]],
                                           grounds[part]], 1))
        return cls(torch.cat(latents).contiguous(), torch.cat(scenes))


@torch.no_grad()
def text_pool(tokenizer: CLIPTokenizer, encoder: CLIPTextModel, scenes: Tensor, seed: int
              ) -> dict[tuple[int, ...], Tensor]:
    """Text states fp16 (CAPTIONS_PER_SCENE, 77, D) for each scene (a row of object, style, background)."""
    objects, styles, grounds = list(THINGS), list(STYLES), list(BACKGROUNDS)
    pool: dict[tuple[int, ...], Tensor] = {}
    for row in scenes.unique(dim=0).tolist():
        scene = Scene(objects[row[0]], styles[row[1]], grounds[row[2]])
        texts = [caption.text for caption in itertools.islice(captions(scene, seed), CAPTIONS_PER_SCENE)]
        ids = tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
        pool[tuple(row)] = encoder(ids).last_hidden_state.half()
    return pool


def train_unet(latents: LatentPool, texts: dict[tuple[int, ...], Tensor], empty: Tensor, out: Path,
               start: UNet2DConditionModel | None = None, *, steps: int, batch: int, seed: int, peak: float = 1e-3,
               decay_from: float = 0.7, progress: Progress | None = None) -> UNet2DConditionModel:
    """Train the UNet on velocity, mean squared error, uniform stratified timesteps, 10% empty prompts.

    The learning rate is constant after a short warm-up and falls linearly to zero over the last part. What is saved
    as the model is an exponential moving average whose horizon grows with the run.
    """
    torch.manual_seed(seed)  # initialisation only
    unet = (UNet2DConditionModel(**UNET) if start is None else start).to(memory_format=torch.channels_last).train()
    average = {f"average/{name}": p.detach().clone() for name, p in unet.named_parameters()}
    optimizer = torch.optim.AdamW(unet.parameters(), weight_decay=0.01, betas=(0.9, 0.99), fused=True)
    scheduler = DDIMScheduler(**SCHEDULER)
    cells = Cells(latents.scenes[:, 0], latents.scenes[:, 1], [STYLE_WEIGHTS[style] for style in STYLES])

    def step(number: int) -> Losses:
        draw = step_generator(seed, number, "unet")
        rows = cells.draw(batch, draw)
        x0 = latents.latents[rows].float()
        picks = torch.randint(CAPTIONS_PER_SCENE, (batch,), generator=draw).tolist()
        cond = torch.stack([texts[tuple(row)][pick] for row, pick in
                            zip(latents.scenes[rows].tolist(), picks, strict=True)]).float()
        cond = torch.where(torch.rand(batch, 1, 1, generator=draw) < 0.1, empty, cond)
        strata = (torch.arange(batch) + torch.rand(batch, generator=draw)) / batch
        t = (strata * 1000).long().clamp_max(999)[torch.randperm(batch, generator=draw)]
        eps = torch.randn(x0.shape, generator=draw)
        x_t = scheduler.add_noise(x0, eps, t).contiguous(memory_format=torch.channels_last)
        v = scheduler.get_velocity(x0, eps, t)
        loss = (unet(x_t, t, cond, return_dict=False)[0] - v).square().mean()
        norm = descend(optimizer, loss, unet.parameters())
        decay = min(0.9995, 1 - 10 / (10 + number))
        torch._foreach_lerp_(list(average.values()), list(unet.parameters()), 1 - decay)
        return {"loss": loss.item(), "norm": norm}

    def rate(number: int) -> float:
        return peak * min(1.0, (number + 1) / 200) * min(1.0, (steps - number) / (steps * (1 - decay_from)))

    state = {**{f"unet/{name}": p for name, p in unet.named_parameters()}, **average}
    run_loop(step, steps, state, {"adam": optimizer}, checkpoint=out / "unet.ckpt", learning_rate={"adam": rate},
             under=Inputs({"part": "unet", "seed": seed, "batch": batch, "continued": start is not None}),
             progress=progress, every=60)
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            parameter.copy_(average[f"average/{name}"])
    return unet.eval()
