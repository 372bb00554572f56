"""The null control of attacks that start from images: the same attack on a denoiser that never learnt anything.

Whatever an attack gets out of a UNet whose weights hold nothing comes from the image it was given and from the
autoencoder, not from the model. Every parameter tensor keeps its own values in a seeded random order, so that scales
are those of the real network while nothing of what was learnt is left.

Source: the random-model check of TINA+ (arXiv 2608.17747), which showed that plain DDIM inversion reconstructs images
from a random network. Differs: values are shuffled within each tensor, not drawn anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from expunge.attacks.victim import Victim
from expunge.models.model import Model


@contextmanager
def randomised(victim: Victim, *, pictures: Tensor, seed: int = 0) -> Iterator[Victim]:
    """A victim of the same architecture whose UNet knows nothing; text encoder and autoencoder are the victim's.

    Its UNet is a copy, so the victim's own model stays as it is, bit for bit, also after an error; the copy is gone
    with the last reference to what is yielded.

    Args:
        victim: with its patch on or off.
        pictures: float32 (N, 3, H, W) of the concept; such a model draws none.
        seed: of the order of the values.
    """
    yield replace(victim, model=_shuffled_copy(victim.model, seed), patch=None, pictures=pictures)


def _shuffled_copy(model: Model, seed: int) -> Model:
    twin = model.frozen_copy()
    shuffle(twin.network, seed)
    # Records must not take one for the other: what is kept of attempts goes by hashes of model and patch.
    twin.become(f"{model.name} (random weights)",
                hashlib.sha256(f"{model.hash}/{model.patch_hash}/shuffled/{seed}".encode()).hexdigest())
    return twin


@torch.no_grad()
def shuffle(network: nn.Module, seed: int) -> None:
    """Put the values of every parameter tensor in random order, in place; each order depends on name and seed alone."""
    for name, parameter in network.named_parameters():
        digest = hashlib.sha256(f"{name}/{seed}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
        parameter.copy_(parameter.flatten()[order].view_as(parameter))
