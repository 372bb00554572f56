"""Where the noisy latents x_t of training come from, and at which times.

A half-way sample is what the model itself passes through on its way to an image of a prompt c: start from
normal noise, run DDIM on a grid of S points t_0 > ... > t_(S-1) under classifier-free guidance, stop at point
k, k uniform:

    x_(t_0) = noise,   x_(t_k) = DDIM_(k-1) o ... o DDIM_0 (noise),   model queried exactly at t_k.

Source: Gandikota et al. 2023 (Erasing Concepts from Diffusion Models), section 4; erasing
esd_sd.py@25613d2:127-141.

The other source, images with fresh noise on them, is in noised.py; what all of them give is in context.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import model_validator
from torch import Tensor
from typing_extensions import Self

from expunge.config import Settings, knob
from expunge.models.conditioning import Conditioning
from expunge.models.denoising import against, branches, denoise, joined, network_conditioning, stepped
from expunge.models.model import Model
from expunge.train import in_turn, step_generator
from expunge.unlearn.anchor import anchor_prompts
from expunge.unlearn.context import Kept, NoisyBatch, Pool, Stream, TrainContext, noise_seed, spread
from expunge.unlearn.needs import Need


class FrozenTrajectory(Settings):
    """Half-way samples of the frozen teacher.

    They depend on frozen parts only, so a pool of trajectories is drawn once, every grid point is kept, and
    steps draw from the pool: the same marginal distribution of (prompt, t, x_t) as a new trajectory per step,
    paid for once.

    Source: erasing esd_sd.py@25613d2:127-141. Differs: a pool unless `fresh`, so steps share trajectories;
        DDIM instead of the pipeline's own scheduler; k is drawn per item, not per step.
    """

    places: ClassVar[str] = "trajectories"
    kind: Literal["frozen"] = "frozen"
    grid: int = knob(20, "Sampler steps of a whole trajectory", unit="steps", ge=1, le=1000)
    guidance: float = knob(3.0, "Classifier-free guidance of the trajectories; 1 is none", ge=1.0, le=50.0,
                           source="CompVis ESD start_guidance; esd_sd.py guidance_scale")
    trajectories: int = knob(24, "Trajectories in the pool", ge=1)
    of: Literal["prompt", "anchor"] = knob(
        "prompt", "What they lead to: what the prompt asks for, or the anchor in the concept's place; the student is "
        "told the prompt either way", added=True)
    part: float = knob(1.0, "Share of the grid's points, from pure noise on, that are drawn and kept", added=True,
                       gt=0.0, le=1.0, source="TRCE: the first 26 of 50")
    eta: float = knob(0.0, "Noise that the sampler puts back in at every step; 0 is none, 1 DDPM's", added=True,
                      ge=0.0, le=10.0, source="EraseFlow: 1")
    fresh: bool = knob(False, "Draw a new trajectory for every item, as published; many times slower")
    rounds: bool = knob(False, "Take prompts in shuffled rounds, each once, instead of drawing with replacement",
                        source="AdvUnlearn's retain prompts")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.fresh and (self.of == "anchor" or self.part < 1.0 or self.eta > 0.0):
            raise ValueError("fresh trajectories to the anchor, to a part of the grid, or of a noisy sampler (leave "
                             "fresh out: a pool of them is drawn)")
        return self

    @property
    def needs(self) -> tuple[Need, ...]:
        """An anchor, where they lead to one."""
        return ("anchor",) if self.of == "anchor" else ()

    @property
    def kept(self) -> Kept:
        """Of every grid point of every trajectory x_t, what the teacher predicts there, and a target."""
        texts = 2 if self.of == "anchor" else 1
        return Kept() if self.fresh else Kept(3 * self.trajectories * self.points, texts * self.trajectories)

    @property
    def points(self) -> int:
        """Grid points of a trajectory that are kept."""
        return max(1, round(self.part * self.grid))

    def open(self, context: TrainContext, prompts: Sequence[str], batch: int, name: str) -> Stream:
        """Draws the pool (or, if fresh, nothing yet)."""
        if self.fresh:
            return FreshDraws(context, context.teacher, tuple(prompts), batch, self.grid, self.guidance, name,
                              self.rounds)
        return PoolDraws(self._pool(context, prompts, name), context.seed, batch, name, self.rounds)

    @property
    def max_prompts(self) -> int | None:
        """A trajectory has one prompt."""
        return None if self.fresh else self.trajectories

    @torch.no_grad()
    def _pool(self, context: TrainContext, prompts: Sequence[str], name: str) -> Pool:
        teacher, S = context.teacher, self.points
        chosen = spread(prompts, self.trajectories)
        cond = teacher.encode(chosen).detach()  # (N, T, D)
        shown = tuple(anchor_prompts(chosen, context.request)) if self.of == "anchor" else ()
        under = teacher.encode(shown).detach() if shown else cond
        noise = teacher.initial_noise([noise_seed(context.seed, name, 0, i) for i in range(self.trajectories)])
        x_t = noise.new_zeros(self.trajectories, S, *noise.shape[1:])  # (N, S, c, h, w)
        x_t[:, 0] = noise
        said, grid = torch.zeros_like(x_t), teacher.process_for(noise).schedule.grid(self.grid)
        rows = max(1, context.chunk // 2)  # guidance doubles the samples of a call
        parts = range(0, self.trajectories, rows)
        for first, k in context.stages.each([(first, k) for first in parts for k in range(S)]):
            here, ends = slice(first, first + rows), k + 1 == S
            x, mine = x_t[here, k].contiguous(), under.at(here)
            null = None if ends else _null(teacher, len(x), self.guidance)
            both = mine if null is None else network_conditioning(teacher, mine, null, self.guidance)
            of_null, said[here, k] = branches(teacher, x, grid[k], both)
            if not ends:
                z = teacher.initial_noise([noise_seed(context.seed, f"{name}/eta", k, i)
                                           for i in range(first, first + len(x))]) if self.eta else None
                out = joined(of_null, said[here, k], self.guidance)
                x_t[here, k + 1] = stepped(teacher, out, x, self.grid, k, self.eta, z)
        return Pool(x_t, teacher.process.schedule.grid(self.grid)[:S].to(x_t.device), chosen, cond, shown, said)


class EditedTrajectory(Settings):
    """Half-way samples of the model being edited, drawn anew for every item.

    The sampler is told the original text states, so with the text encoder in training x_t stays the
    original's.

    Source: CompVis ESD train-esd.py@a2189e9; AdvUnlearn get_loss.py@9d23124:32-47. Differs: the network is
        queried exactly at the time of x_t (the published sampler returns latents 40-60 timesteps cleaner than
        claimed).
    """

    kind: Literal["edited"] = "edited"
    grid: int = knob(50, "Sampler steps of a whole trajectory", unit="steps", ge=1, le=1000,
                     source="CompVis ESD")
    guidance: float = knob(3.0, "Classifier-free guidance of the trajectories; 1 is none", ge=1.0, le=50.0,
                           source="CompVis ESD start_guidance")
    rounds: bool = knob(False, "Take prompts in shuffled rounds, each once, instead of drawing with replacement",
                        source="AdvUnlearn's retain prompts")

    def open(self, context: TrainContext, prompts: Sequence[str], batch: int, name: str) -> Stream:
        """Costs nothing; every draw costs a trajectory."""
        return FreshDraws(context, context.student, tuple(prompts), batch, self.grid, self.guidance, name, self.rounds)

    @property
    def max_prompts(self) -> int | None:
        """None: every draw may be under any prompt."""
        return None



@dataclass(frozen=True)
class PoolDraws:
    """Uniform draws from a pool: with replacement, or trajectories in shuffled rounds."""

    pool: Pool
    seed: int
    batch: int
    name: str
    rounds: bool = False

    def draw(self, number: int) -> NoisyBatch:
        """`batch` entries."""
        generator = step_generator(self.seed, number, f"{self.name}/rows")
        if not self.rounds:
            return self.pool.take(torch.randint(len(self.pool), (self.batch,), generator=generator))
        grid = len(self.pool.t)
        i = in_turn(len(self.pool.prompts), self.batch, number, self.seed, self.name)
        return self.pool.take(i * grid + torch.randint(grid, (self.batch,), generator=generator))

    def draw_extra(self, number: int, turn: int, prompts: Sequence[str]) -> NoisyBatch:
        """Entries of trajectories under the prompts."""
        return self.pool.take(self.pool.under(prompts, step_generator(self.seed, number, f"{self.name}/rows/{turn}")))


@dataclass(frozen=True)
class FreshDraws:
    """A trajectory of `model`, as it is now, for every item of every draw."""

    context: TrainContext
    model: Model
    prompts: tuple[str, ...]
    batch: int
    grid: int
    guidance: float
    name: str
    rounds: bool = False
    pool: None = None

    def draw(self, number: int) -> NoisyBatch:
        """`batch` trajectories, each stopped at its own uniform grid point."""
        generator = step_generator(self.context.seed, number, f"{self.name}/rows")
        k = torch.randint(self.grid, (self.batch,), generator=generator)
        count = len(self.prompts)
        pick = (in_turn(count, self.batch, number, self.context.seed, self.name) if self.rounds else
                torch.randint(count, (self.batch,), generator=generator))
        return self._points(k, tuple(self.prompts[int(i)] for i in pick), number, self.name)

    def draw_extra(self, number: int, turn: int, prompts: Sequence[str]) -> NoisyBatch:
        """New trajectories under the prompts."""
        generator = step_generator(self.context.seed, number, f"{self.name}/rows/{turn}")
        k = torch.randint(self.grid, (len(prompts),), generator=generator)
        return self._points(k, tuple(prompts), number, f"{self.name}/beside/{turn}")

    def _points(self, k: Tensor, chosen: tuple[str, ...], number: int, name: str) -> NoisyBatch:
        """A trajectory for each prompt, stopped at grid points `k`, int64 (B,)."""
        teacher = self.context.teacher
        cond = teacher.encode(chosen).detach()
        x = teacher.initial_noise([noise_seed(self.context.seed, name, number, i) for i in range(len(chosen))])
        null = _null(teacher, len(chosen), self.guidance)
        for start in range(int(k.max())):
            alive = (k > start).nonzero().flatten()
            against = null.at(alive) if null is not None else None
            x[alive] = denoise(self.model, x[alive], cond.at(alive), against, self.grid, self.guidance,
                                          start=start, stop=start + 1)
        return NoisyBatch(x, teacher.process.schedule.grid(self.grid)[k].to(x.device), chosen, cond)


@torch.no_grad()
def _null(teacher: Model, count: int, guidance: float) -> Conditioning | None:
    null = against(teacher, guidance)
    return None if null is None else null.repeat(count)
