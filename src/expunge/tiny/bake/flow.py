"""The denoiser of the embedded flow models: a transformer that learns the velocity of a rectified flow."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from expunge.resume import Inputs
from expunge.tiny.bake.networks import Network
from expunge.tiny.bake.readings import CAPTIONS_PER_SCENE, Readings
from expunge.tiny.bake.sampling import Cells
from expunge.tiny.bake.schedule import descend
from expunge.tiny.bake.unet import STYLE_WEIGHTS, LatentPool
from expunge.tiny.world import STYLES
from expunge.train import Losses, Progress, run_loop, step_generator

CHECKPOINT_SECONDS = 120.0
NO_PROMPT, NO_POOLED = 0.1, 0.3
"""How often a prompt is empty, and how often its pooled state alone is: the text tokens have to do without it."""
TOLD_FROM, STRONGEST = 0.6, 3.0
"""Share of the steps after which a network learns what guidances other than 1 mean, and the largest that it is told."""


def train_flow(latents: LatentPool, texts: Readings, scene: Tensor, empty: Readings, out: Path, network: Network, *,
               steps: int, batch: int, seed: int, peak: float = 1e-3, half: bool = True, decay_from: float = 0.7,
               name: str = "flow", begun: str = "", progress: Progress | None = None) -> Network:
    """Train the transformer on velocity (noise minus clean), mean squared error.

    Half of the times are uniform, so that the first step decides a plain background, and half logit-normal. The
    learning rate is constant after a short warm-up and falls linearly to zero over the last part: until then `steps`
    may change. What is saved as the model is an exponential moving average.

    A network that is told its guidance is told 1 at first. From `TOLD_FROM` on, half of each batch is told more, and
    its target is what the network itself says at guidance 1, with and without the prompt, put together.

    Source: Meng et al. 2023 (guidance distillation). Differs: the teacher is the network as it is at that step.

    Args:
        latents: the images.
        texts: readings of `CAPTIONS_PER_SCENE` captions of each scene.
        scene: (N,) the scene of each latent.
        empty: the reading of "", one row.
        out: folder of the checkpoint.
        network: what to train, in place.
        steps: steps in all.
        batch: latents per step.
        seed: of the steps.
        peak: the highest learning rate.
        half: matrix products in bfloat16.
        decay_from: share of the steps after which the learning rate falls.
        name: of the checkpoint.
        begun: what the network began with, if not fresh.
        progress: told of every step.
    """
    model = network.model.train()
    average = {f"average/{key}": p.detach().clone() for key, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01, betas=(0.9, 0.99), fused=True)
    cells = Cells(latents.scenes[:, 0], latents.scenes[:, 1], [STYLE_WEIGHTS[style] for style in STYLES])
    nothing = empty.at(torch.zeros(1, dtype=torch.long))

    def step(number: int) -> Losses:
        draw = step_generator(seed, number, "flow")
        rows = cells.draw(batch, draw)
        x0 = latents.latents[rows].float()
        told = texts.at(scene[rows] * CAPTIONS_PER_SCENE + torch.randint(CAPTIONS_PER_SCENE, (batch,), generator=draw))
        luck = torch.rand(batch, 1, generator=draw)
        told = Readings(torch.where(luck[..., None] < NO_PROMPT, nothing.states, told.states),
                        torch.where(luck < NO_PROMPT + NO_POOLED, nothing.pooled, told.pooled))
        s = _times(batch, draw)
        eps = torch.randn(x0.shape, generator=draw)
        share = s[:, None, None, None]
        x_s = (1 - share) * x0 + share * eps
        target, guidance = eps - x0, torch.ones(batch)
        with torch.autocast("cpu", torch.bfloat16, enabled=half), network.attention():
            if network.guided and number >= TOLD_FROM * steps:
                more = batch // 2
                guidance[:more] = 1 + (STRONGEST - 1) * torch.rand(more, generator=draw)
                target[:more] = distilled(network, x_s[:more], s[:more], told.at(torch.arange(more)), nothing,
                                          guidance[:more])
            v = network.velocity(x_s, s, told, guidance)
        loss = (v.float() - target).square().mean()
        norm = descend(optimizer, loss, model.parameters())
        torch._foreach_lerp_(list(average.values()), list(model.parameters()), 1 - min(0.9995, 1 - 10 / (10 + number)))
        return {"loss": loss.item(), "norm": norm}

    warm = min(500, 1 + steps // 20)

    def rate(number: int) -> float:
        return peak * min(1.0, (number + 1) / warm) * min(1.0, (steps - number) / (steps * (1 - decay_from)))

    state = {**{f"{name}/{key}": p for key, p in model.named_parameters()}, **average}
    under = {"part": name, "seed": seed, "batch": batch, "half": half} | ({"begun": begun} if begun else {})
    run_loop(step, steps, state, {"adam": optimizer}, checkpoint=out / f"{name}.ckpt", learning_rate={"adam": rate},
             under=Inputs(under), progress=progress, every=CHECKPOINT_SECONDS)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.copy_(average[f"average/{key}"])
    model.eval()
    return network


@torch.no_grad()
def distilled(network: Network, x: Tensor, s: Tensor, told: Readings, nothing: Readings, guidance: Tensor) -> Tensor:
    """What classifier-free guidance (B,) makes of the network's own velocities at guidance 1, float32 (B, c, h, w)."""
    count = len(x)
    bare = nothing.at(torch.zeros(count, dtype=torch.long))
    both = Readings(torch.cat([told.states, bare.states]), torch.cat([told.pooled, bare.pooled]))
    with_, without = network.velocity(torch.cat([x, x]), torch.cat([s, s]), both,
                                      torch.ones(2 * count)).float().chunk(2)
    return without + guidance[:, None, None, None] * (with_ - without)


def _times(batch: int, draw: torch.Generator) -> Tensor:
    """(B,) times in (0, 1), stratified and shuffled: every other one uniform, the others logit-normal."""
    uniform = (torch.arange(batch) + torch.rand(batch, generator=draw)) / batch
    normal = torch.special.ndtri(uniform.clamp(1e-4, 1 - 1e-4)).sigmoid()
    times = torch.where(torch.arange(batch) % 2 == 0, uniform, normal)
    return times[torch.randperm(batch, generator=draw)]
