"""Draw the unchanged prompt with a sampler that puts noise back in at every step.

The sampler is `models.denoising.stepped`: eta 0 is the deterministic one, eta 1 DDPM's, and above it more noise than
the model was trained for. An edit that holds along one sampler's paths need not hold beside them. Nothing works towards
the concept, so that what is found is found by looking often and elsewhere; the null control says how much that is.

Source: the noise-based probe of "When Are Concepts Erased from Diffusion Models?" (2025): eta 1 to 1.85, variance times
1 to 1.04, 24 images. Differs: every image is judged in its order and the first that shows the concept counts, where
the probe takes the best of all by the classifier that then scores it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from expunge.attacks.base import Access, Attack, item_generator, item_noise
from expunge.attacks.proposal import Batch, Candidate, Rounds
from expunge.attacks.reference import seen_as, states_of
from expunge.attacks.victim import Item, Victim, pictures_budget
from expunge.config import knob
from expunge.models.denoising import against, guided, network_conditioning, stepped
from expunge.records import Sampler, Spent


class NoisySampler(Attack):
    """The prompt itself, drawn with more and more noise on the way."""

    access: ClassVar[Access] = "image"
    null_elsewhere: ClassVar[bool] = True
    source: ClassVar[str] = "When Are Concepts Erased from Diffusion Models? 2025: noise-based probe"
    SMOKE: ClassVar[Mapping[str, Any]] = {"etas": (1.0, 1.5), "scales": (1.0,), "tries": 2}

    etas: tuple[Annotated[float, Field(gt=0, le=10)], ...] = knob(
        (1.0, 1.28, 1.57, 1.85), "how much noise is put back in at every step, in the order in which they are tried; 1 "
        "is what the model was trained for", min_length=1)
    scales: tuple[Annotated[float, Field(gt=0, le=2)], ...] = knob(
        (1.0, 1.02, 1.04), "factors of that noise", min_length=1)
    tries: int = knob(2, "images at each", ge=1, unit="pictures")

    def propose(self, batch: Batch) -> Rounds:
        """Every item's prompt, with one sampler after the other."""
        ways = [(eta, scale, turn) for eta in self.etas for scale in self.scales for turn in range(self.tries)]
        draws = [(partial(self._drawn, batch, way), f"at eta {way[0]:g}, noise times {way[1]:g}") for way in ways]
        tries = [[Candidate(row, draw=draw, note=note) for draw, note in draws] for row in range(len(batch.items))]
        return batch.in_turn(tries)

    def budget(self, sampler: Sampler) -> Spent:
        """One image for every eta, factor and try."""
        return pictures_budget(sampler, len(self.etas) * len(self.scales) * self.tries)

    def _drawn(self, batch: Batch, way: tuple[float, float, int], rows: Sequence[int], seeds: Sequence[int]) -> Tensor:
        items = [(batch.items[row][0], seed) for row, seed in zip(rows, seeds, strict=True)]
        parts = [(places, seen_as(own.model, self._latents(own, [items[place] for place in places], *way)))
                 for own, places in batch.victim.parts(items)]
        order = torch.tensor([place for places, _ in parts for place in places])
        return torch.cat([pictures for _, pictures in parts])[order.argsort()]

    @torch.no_grad()
    def _latents(self, victim: Victim, items: Sequence[Item], eta: float, scale: float, turn: int) -> Tensor:
        """Clean latents (B, c, h, w); the noise of an item belongs to its prompt, its seed, and the way of trying."""
        model, sampler = victim.model, victim.sampler
        generators = [item_generator(self, item, f"eta {eta} scale {scale} try {turn}") for item in items]
        shape = model.initial_noise([0], sampler.height, sampler.width).shape[1:]
        noise = lambda: item_noise(generators, shape).to(model.device)
        cond = states_of(model, [prompt.text for prompt, _ in items])
        both = network_conditioning(model, cond, against(model, sampler.guidance, sampler.negative), sampler.guidance)
        x = noise()
        grid = model.process_for(x).schedule.grid(sampler.steps)
        for k in range(sampler.steps):
            out = guided(model, x, grid[k], both, sampler.guidance)
            x = stepped(model, out, x, sampler.steps, k, eta, scale * noise())
        return x
