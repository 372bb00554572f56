"""The denoiser of the embedded flow model: a rectified-flow transformer as in Stable Diffusion 3.5, made small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import SD3Transformer2DModel
from diffusers.models.attention_processor import JointAttnProcessor2_0
from torch import Tensor, nn

from expunge.models.repeated import JointAttention
from expunge.resume import Inputs
from expunge.tiny.bake.flow_text import CAPTIONS_PER_SCENE, Readings
from expunge.tiny.bake.sampling import Cells
from expunge.tiny.bake.unet import STYLE_WEIGHTS, LatentPool
from expunge.tiny.world import STYLES
from expunge.train import Losses, Progress, run_loop, step_generator

TRANSFORMER: dict[str, Any] = {
    "sample_size": 16, "patch_size": 2, "in_channels": 4, "out_channels": 4, "num_layers": 6,
    "attention_head_dim": 64, "num_attention_heads": 4, "caption_projection_dim": 256, "pos_embed_max_size": 16,
    "qk_norm": "rms_norm",
}
"""64 image tokens; queries and keys are normalised as in 3.5. The widths of the text are those of the encoders."""

EMPTY_TOKENS = 256
"""Zeros that `StableDiffusion3Pipeline` reads in the place of T5."""
CHECKPOINT_SECONDS = 120.0
NO_PROMPT, NO_POOLED = 0.1, 0.3
"""How often a prompt is empty, and how often its pooled state alone is: the text tokens have to do without it."""


def new_transformer(text: int, pooled: int, **changed: Any) -> SD3Transformer2DModel:
    """A fresh transformer for text states and pooled states of these widths, which predicts 0 and passes all through.

    Source: Peebles and Xie 2023 (adaLN-Zero). Diffusers leaves the initialisation to the caller.
    """
    model = SD3Transformer2DModel(**{**TRANSFORMER, "joint_attention_dim": text, "pooled_projection_dim": pooled,
                                     **changed})
    for name, module in model.named_modules():
        if name == "proj_out" or (name.endswith("linear") and "norm" in name):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    return model


def train_flow(latents: LatentPool, texts: Readings, scene: Tensor, empty: Readings, out: Path,
               model: SD3Transformer2DModel, *, steps: int, batch: int, seed: int, peak: float = 1e-3,
               half: bool = True, decay_from: float = 0.7, progress: Progress | None = None) -> SD3Transformer2DModel:
    """Train the transformer on velocity (noise minus clean), mean squared error.

    Half of the times are uniform, so that the first step decides a plain background, and half logit-normal. The
    learning rate is constant after a short warm-up and falls linearly to zero over the last part: until then `steps`
    may change. What is saved as the model is an exponential moving average.

    Args:
        latents: the images.
        texts: readings of `CAPTIONS_PER_SCENE` captions of each scene.
        scene: (N,) the scene of each latent.
        empty: the reading of "", one row.
        out: folder of the checkpoint.
        model: what to train, in place.
        steps: steps in all.
        batch: latents per step.
        seed: of the steps.
        peak: the highest learning rate.
        half: matrix products in bfloat16.
        decay_from: share of the steps after which the learning rate falls.
        progress: told of every step.
    """
    model.set_attn_processor(JointAttention(fused=False))
    model.train()
    average = {f"average/{name}": p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01, betas=(0.9, 0.99), fused=True)
    cells = Cells(latents.scenes[:, 0], latents.scenes[:, 1], [STYLE_WEIGHTS[style] for style in STYLES])
    nothing = empty.at(torch.zeros(1, dtype=torch.long))
    behind = torch.zeros(batch, 1, nothing.states.shape[2])  # stands for all of T5's zeros

    def step(number: int) -> Losses:
        draw = step_generator(seed, number, "flow")
        rows = cells.draw(batch, draw)
        x0 = latents.latents[rows].float()
        told = texts.at(scene[rows] * CAPTIONS_PER_SCENE + torch.randint(CAPTIONS_PER_SCENE, (batch,), generator=draw))
        luck = torch.rand(batch, 1, generator=draw)
        states = torch.where(luck[..., None] < NO_PROMPT, nothing.states, told.states)
        pooled = torch.where(luck < NO_PROMPT + NO_POOLED, nothing.pooled, told.pooled)
        s = _times(batch, draw)[:, None, None, None]
        eps = torch.randn(x0.shape, generator=draw)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            v = model(hidden_states=(1 - s) * x0 + s * eps, timestep=s.flatten() * 1000,
                      encoder_hidden_states=torch.cat([states, behind], 1), pooled_projections=pooled,
                      joint_attention_kwargs={"last_counts": EMPTY_TOKENS}, return_dict=False)[0]
        loss = (v.float() - (eps - x0)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        torch._foreach_lerp_(list(average.values()), list(model.parameters()), 1 - min(0.9995, 1 - 10 / (10 + number)))
        return {"loss": loss.item(), "norm": norm.item()}

    def rate(number: int) -> float:
        return peak * min(1.0, (number + 1) / 500) * min(1.0, (steps - number) / (steps * (1 - decay_from)))

    state = {**{f"flow/{name}": p for name, p in model.named_parameters()}, **average}
    run_loop(step, steps, state, {"adam": optimizer}, checkpoint=out / "flow.ckpt", learning_rate={"adam": rate},
             under=Inputs({"part": "flow", "seed": seed, "batch": batch, "half": half}), progress=progress,
             every=CHECKPOINT_SECONDS)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(average[f"average/{name}"])
    model.set_attn_processor(JointAttnProcessor2_0())
    return model.eval()


def _times(batch: int, draw: torch.Generator) -> Tensor:
    """(B,) times in (0, 1), stratified and shuffled: every other one uniform, the others logit-normal."""
    uniform = (torch.arange(batch) + torch.rand(batch, generator=draw)) / batch
    normal = torch.special.ndtri(uniform.clamp(1e-4, 1 - 1e-4)).sigmoid()
    times = torch.where(torch.arange(batch) % 2 == 0, uniform, normal)
    return times[torch.randperm(batch, generator=draw)]
