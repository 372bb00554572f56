"""Sampling by diffusers' own schedulers, where a protocol fixes one that our sampler is not.

Published numbers were drawn by LMS, DDIM, Euler and their kin. Those are diffusers' objects here, made from the model's
own noise schedule, and called as the pipeline calls them, so that latents equal the pipeline's
(`tests/models/test_schedulers.py`). A scheduler that draws random numbers on the way is refused: the image would depend
on more than its prompt and seed.

Source: diffusers `StableDiffusionPipeline.__call__`. Differs: no random steps.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)
from torch import Tensor

from expunge.errors import ModelError, UserError, install
from expunge.models.conditioning import Conditioning
from expunge.models.denoising import guided, network_conditioning
from expunge.models.model import Model
from expunge.models.schedule import VariancePreserving

SCHEDULERS: dict[str, type[Any]] = {
    "ddim": DDIMScheduler, "dpm": DPMSolverMultistepScheduler, "euler": EulerDiscreteScheduler,
    "lms": LMSDiscreteScheduler, "pndm": PNDMScheduler, "unipc": UniPCMultistepScheduler}
"""What can be named, each without random steps."""


def scheduler_for(model: Model, name: str) -> Any:
    """The scheduler called `name`, with the model's betas, spacing and prediction.

    Raises:
        UserError: an unknown name, one that needs an extra package, or a model that is no such diffusion (a flow).
    """
    if name not in SCHEDULERS:
        raise UserError(f"scheduler {name!r}", accepted=", ".join(SCHEDULERS))
    schedule = model.process.schedule
    if not isinstance(schedule, VariancePreserving):
        raise UserError(f"scheduler {name!r} for {model.name}", accepted="its own sampler: it is a flow model",
                        remedy="numbers of protocols for Stable Diffusion cannot be compared with it")
    try:
        return SCHEDULERS[name].from_config(schedule.config)
    except ImportError as error:
        raise UserError(f"the scheduler {name!r} needs scipy, which is not installed",
                        remedy=install("protocols")) from error
    except ValueError as error:
        raise ModelError(f"{model.name}'s noise schedule does not fit {name}: {error}") from error


@torch.no_grad()
def denoise_by(name: str, model: Model, noise: Tensor, cond: Conditioning, uncond: Conditioning | None, steps: int,
               guidance: float) -> Tensor:
    """Clean latents from standard normal `noise`, float32 (B, c, h, w), by the scheduler called `name`.

    Args:
        cond, uncond: as in `network_conditioning`.

    Raises:
        UserError: as `scheduler_for`.
    """
    scheduler = scheduler_for(model, name)
    scheduler.set_timesteps(steps)
    x: Tensor = noise.to(model.device) * scheduler.init_noise_sigma
    both = network_conditioning(model, cond, uncond, guidance)
    for t in scheduler.timesteps:
        out = guided(model, scheduler.scale_model_input(x, t), t.to(model.device, torch.float32), both, guidance)
        x = scheduler.step(out, t, x, return_dict=False)[0]
    return x
