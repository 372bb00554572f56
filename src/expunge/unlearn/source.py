"""Where the noisy latents x_t of training come from, and at which times.

A half-way sample is what the model itself passes through on its way to a picture of a prompt c: start from
normal noise, run DDIM on a grid of S points t_0 > ... > t_(S-1) under classifier-free guidance, stop at point
k, k uniform:

    x_(t_0) = noise,   x_(t_k) = DDIM_(k-1) o ... o DDIM_0 (noise),   model queried exactly at t_k.

Source: Gandikota et al. 2023 (Erasing Concepts from Diffusion Models), section 4; erasing
esd_sd.py@25613d2:127-141.

Sources are settings; `open` turns one into a `Stream`, which gives the points of a step from the step's
number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal, Protocol

import torch
from pydantic import Discriminator, Tag
from torch import Tensor

from expunge.config import Settings, knob
from expunge.models.base import Conditioning, Denoiser
from expunge.records import Request
from expunge.train import Progress, step_generator


@dataclass(frozen=True)
class Bench:
    """What every part of a recipe works with.

    Attributes:
        student: the model being edited; teacher: the same model, frozen, as it was.
        request: what is to be unlearned.
        seed: the run's seed.
        text_trains: whether the student's text encoder changes (then its prompts are encoded anew in every
            step).
        chunk: samples per call of the frozen teacher.
        tell: told of work before the first step, with no losses.
    """

    student: Denoiser
    teacher: Denoiser
    request: Request
    seed: int
    text_trains: bool = False
    chunk: int = 16
    tell: Progress | None = None

    def condition(self, points: Points) -> Conditioning:
        """What the student is told at `points`; with gradient where its text encoder trains."""
        return self.student.encode(points.prompts) if self.text_trains else points.cond


@dataclass(frozen=True)
class Points:
    """Noisy latents to train on.

    Attributes:
        x_t: float32 (B, c, h, w), no gradient.
        t: int64 (B,), the exact time of each.
        prompts: B prompts under which they were drawn.
        cond: the frozen teacher's text states of the prompts.
        rows: int64 (B,) places in the stream's pool; None where there is no pool.
    """

    x_t: Tensor
    t: Tensor
    prompts: tuple[str, ...]
    cond: Conditioning
    rows: Tensor | None = None


@dataclass(frozen=True)
class Pool:
    """Trajectories kept at every grid point; entry i*S + k is trajectory i at point k.

    Attributes:
        x_t: float32 (N, S, c, h, w); t: int64 (S,), the grid; prompts: N; cond: (N, T, D), the teacher's.
    """

    x_t: Tensor
    t: Tensor
    prompts: tuple[str, ...]
    cond: Conditioning

    def __len__(self) -> int:
        return int(self.x_t.shape[0] * self.x_t.shape[1])

    def take(self, rows: Tensor) -> Points:
        """The entries at `rows`, int64 (B,)."""
        i, k = rows // len(self.t), rows % len(self.t)
        prompts = tuple(self.prompts[int(j)] for j in i)
        return Points(self.x_t[i, k], self.t[k], prompts, self.cond.at(i), rows)


class Stream(Protocol):
    """An opened source. `pool` holds all points it will ever give, or None if every draw is new."""

    @property
    def pool(self) -> Pool | None: ...

    def draw(self, number: int) -> Points:
        """The points of step `number`; the same number gives the same points (for the same student)."""
        ...


class Source(Protocol):
    """Settings from which a stream can be opened."""

    def open(self, bench: Bench, prompts: Sequence[str], batch: int, name: str) -> Stream:
        """A stream of `batch` points per step under `prompts`; `name` keeps its draws apart from others'."""
        ...

    def calls(self, draws: int) -> float:
        """How many samples pass through the UNet to supply `draws` points."""
        ...

    @property
    def entries(self) -> int | None:
        """Size of the pool, None where there is none."""
        ...


class FrozenTrajectory(Settings):
    """Half-way samples of the frozen teacher.

    They depend on frozen parts only, so a pool of trajectories is drawn once, every grid point is kept, and
    steps draw from the pool: the same marginal distribution of (prompt, t, x_t) as a new trajectory per step,
    paid for once.

    Source: erasing esd_sd.py@25613d2:127-141. Differs: a pool unless `fresh`, so steps share trajectories;
        DDIM instead of the pipeline's own scheduler; k is drawn per item, not per step.
    """

    kind: Literal["frozen"] = "frozen"
    grid: int = knob(20, "Sampler steps of a whole trajectory", unit="steps", ge=1, le=1000)
    guidance: float = knob(3.0, "Classifier-free guidance of the trajectories; 1 is none", ge=1.0, le=50.0,
                           source="CompVis ESD start_guidance; esd_sd.py guidance_scale")
    trajectories: int = knob(24, "Trajectories in the pool", ge=1)
    fresh: bool = knob(False, "Draw a new trajectory for every item, as published; many times slower")

    def open(self, bench: Bench, prompts: Sequence[str], batch: int, name: str) -> Stream:
        """Draws the pool (or, if fresh, nothing yet)."""
        if self.fresh:
            return FreshDraws(bench, bench.teacher, tuple(prompts), batch, self.grid, self.guidance, name)
        return PoolDraws(self._pool(bench, prompts, name), bench.seed, batch, name)

    def calls(self, draws: int) -> float:
        """UNet samples: fixed for a pool, per draw if fresh."""
        per_step = 1 if self.guidance == 1.0 else 2
        if self.fresh:
            return per_step * draws * (self.grid - 1) / 2
        return per_step * self.trajectories * (self.grid - 1)

    @property
    def entries(self) -> int | None:
        """Trajectories times grid points, None if fresh."""
        return None if self.fresh else self.trajectories * self.grid

    def _pool(self, bench: Bench, prompts: Sequence[str], name: str) -> Pool:
        teacher, S = bench.teacher, self.grid
        chosen = spread(prompts, self.trajectories)
        cond = _frozen(teacher.encode(chosen))  # (N, T, D)
        noise = teacher.initial_noise([_noise_seed(bench.seed, name, 0, i) for i in range(self.trajectories)])
        x_t = noise.new_empty(self.trajectories, S, *noise.shape[1:])  # (N, S, c, h, w)
        rows = max(1, bench.chunk // 2)  # guidance doubles the samples of a call
        parts = range(0, self.trajectories, rows)
        for part, first in enumerate(parts):
            here = slice(first, first + rows)
            x, mine = noise[here], cond.at(here)
            null = _null(teacher, len(x), self.guidance)
            for k in range(S):
                x_t[here, k] = x
                if k + 1 < S:
                    x = teacher.denoise(x, mine, null, S, self.guidance, start=k, stop=k + 1)
                if bench.tell is not None:
                    bench.tell(part * S + k + 1, len(parts) * S, {})
        return Pool(x_t, teacher.timesteps(S).to(x_t.device), chosen, cond)


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

    def open(self, bench: Bench, prompts: Sequence[str], batch: int, name: str) -> Stream:
        """Costs nothing; every draw costs a trajectory."""
        return FreshDraws(bench, bench.student, tuple(prompts), batch, self.grid, self.guidance, name)

    def calls(self, draws: int) -> float:
        """UNet samples: half a trajectory per draw on average."""
        return (1 if self.guidance == 1.0 else 2) * draws * (self.grid - 1) / 2

    @property
    def entries(self) -> int | None:
        """None: nothing is pooled."""
        return None


def _kind(value: Any) -> str | None:
    """The kind of a source, given as settings or built; "frozen" when settings name none."""
    return value.get("kind", "frozen") if isinstance(value, Mapping) else getattr(value, "kind", None)


AnySource = Annotated[Annotated[FrozenTrajectory, Tag("frozen")] | Annotated[EditedTrajectory, Tag("edited")],
                      Discriminator(_kind, custom_error_type="unknown_kind",
                                    custom_error_message="Known kinds of source: frozen, edited")]
"""Every source that settings can name. A new one (noised images) joins here and nowhere else."""


@dataclass(frozen=True)
class PoolDraws:
    """Uniform draws, with replacement, from a pool."""

    pool: Pool
    seed: int
    batch: int
    name: str

    def draw(self, number: int) -> Points:
        """`batch` entries."""
        generator = step_generator(self.seed, number, f"{self.name}/rows")
        return self.pool.take(torch.randint(len(self.pool), (self.batch,), generator=generator))


@dataclass(frozen=True)
class FreshDraws:
    """A trajectory of `model`, as it is now, for every item of every draw."""

    bench: Bench
    model: Denoiser
    prompts: tuple[str, ...]
    batch: int
    grid: int
    guidance: float
    name: str
    pool: None = None

    def draw(self, number: int) -> Points:
        """`batch` trajectories, each stopped at its own uniform grid point."""
        teacher, generator = self.bench.teacher, step_generator(self.bench.seed, number, f"{self.name}/rows")
        k = torch.randint(self.grid, (self.batch,), generator=generator)
        pick = torch.randint(len(self.prompts), (self.batch,), generator=generator)
        chosen = tuple(self.prompts[int(i)] for i in pick)
        cond = _frozen(teacher.encode(chosen))
        seeds = [_noise_seed(self.bench.seed, self.name, number, i) for i in range(self.batch)]
        x = teacher.initial_noise(seeds)
        null = _null(teacher, self.batch, self.guidance)
        for start in range(int(k.max())):
            alive = (k > start).nonzero().flatten()
            against = null.at(alive) if null is not None else None
            x[alive] = self.model.denoise(x[alive], cond.at(alive), against, self.grid, self.guidance,
                                          start=start, stop=start + 1)
        return Points(x, teacher.timesteps(self.grid)[k].to(x.device), chosen, cond)


def spread(prompts: Sequence[str], count: int) -> tuple[str, ...]:
    """`count` prompts: all in turn if they are few, evenly spaced ones (with the first) if they are many."""
    n = len(prompts)
    return tuple(prompts[i % n] if n <= count else prompts[i * n // count] for i in range(count))


def _noise_seed(seed: int, name: str, number: int, item: int) -> int:
    return step_generator(seed, number, f"{name}/noise/{item}").initial_seed()


@torch.no_grad()
def _null(teacher: Denoiser, count: int, guidance: float) -> Conditioning | None:
    return None if guidance == 1.0 else teacher.encode([""]).repeat(count)


def _frozen(cond: Conditioning) -> Conditioning:
    return replace(cond, states=cond.states.detach())
