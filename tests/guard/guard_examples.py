"""What the tests of masks share: images for the small pipeline, its weights, and settings that take no time."""

from __future__ import annotations

import torch
from torch import Tensor

from expunge.finetune import TrainingImages, material
from expunge.guard import PublisherImages
from expunge.models.model import Model

QUICK = {"steps": 3, "passes": 1, "rows": 4, "batch": 2,
         "users": {"adamw": {"learning_rate": 4e-3, "batch": 2, "drop": 0.0}}}
"""Settings of the projected learner on the small pipeline."""
ONE_SHOT = {"steps": 3, "batches": 2, "rows": 4, "batch": 2, "users": QUICK["users"]}
RELEASED = {"first": {"steps": 2, "batch": 2, "learning_rate": 1e-3}, "user_steps": 3, "batch": 2, "interval": 2}


def pictures(count: int, level: float, seed: int = 7) -> Tensor:
    return level + 0.3 * torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def publisher(model: Model, prior: bool = False) -> PublisherImages:
    """Dark churches are forbidden, bright apples are not."""
    return PublisherImages((material(model, pictures(4, 0.0), ["a church"] * 4),),
                           (material(model, pictures(4, 0.7), ["a red apple"] * 4),),
                           TrainingImages(*_prior(model)) if prior else None)


def _prior(model: Model) -> tuple[Tensor, tuple[str, ...]]:
    kept = material(model, pictures(2, 0.4), ["a dog"] * 2)
    return kept.latents, kept.captions


def weights(model: Model) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in model.parameters_of("denoiser").items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
