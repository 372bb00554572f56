"""Images with fresh noise on them: points of training as a network first learned from.

    x_t = s z + r eps,   t as the model was trained, eps ~ N(0, I),

s and r the levels at t (`models.process`), z a clean latent that the frozen teacher draws itself, so that no images
need to be collected and none leave what the model knows. Both t and eps are new in every step and for every item; only
the images are few and drawn once.

Source: Kumari et al. 2023 (Concept Ablation), section 3.2, where the images show the anchor concept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor

from expunge.config import Settings, knob
from expunge.models.conditioning import Conditioning
from expunge.models.denoising import against, denoise
from expunge.train import step_generator
from expunge.unlearn.anchor import anchor_prompts
from expunge.unlearn.context import Kept, NoisyBatch, Stream, TrainContext, noise_seed, spread
from expunge.unlearn.needs import Need, check_anchors


class NoisedPictures(Settings):
    """Images that the frozen teacher draws, noised anew for every item of every step.

    The student is told the prompt even where the image shows the anchor in its place.

    Source: Concept Ablation (c11fb1b): 1000 images from 200 prompts, 25 sampler steps, guidance 6. Differs: latents
        are kept as the sampler leaves them, with no autoencoder between; DDIM; no cropping, shrinking or mirroring; the
        anchor's prompts are made from the concept's, not the other way round.
    """

    places: ClassVar[str] = "pictures"
    kind: Literal["noised"] = "noised"
    of: Literal["prompt", "anchor"] = knob(
        "prompt", "What the images show: what the prompt asks for, or the anchor in the concept's place")
    pictures: int = knob(64, "Images, shared evenly among the prompts", ge=1, source="Concept Ablation: 1000")
    grid: int = knob(20, "Sampler steps of an image", unit="steps", ge=1, le=1000, source="Concept Ablation: 25")
    guidance: float = knob(2.0, "Classifier-free guidance of the images; 1 is none", ge=1.0, le=50.0,
                           source="Concept Ablation: 6")

    points: int = knob(0, "Points of each image that are drawn once and kept; 0: new times and noise in every step",
                       added=True, ge=0)

    @property
    def kept(self) -> Kept:
        """The images; of points that are kept x_t, x_0, the noise, and a target."""
        texts = 2 if self.of == "anchor" else 1
        return Kept(self.pictures * (1 + 4 * self.points), self.pictures * (texts + self.points))

    @property
    def needs(self) -> tuple[Need, ...]:
        """An anchor, where the images show one."""
        return ("anchor",) if self.of == "anchor" else ()

    def open(self, context: TrainContext, prompts: Sequence[str], batch: int, name: str) -> Stream:
        """Draws the images.

        Raises:
            UserError: the images are to show an anchor that the request does not have.
        """
        if self.of == "anchor":
            check_anchors(context.request)
        given = spread(prompts, self.pictures)
        shown = tuple(anchor_prompts(given, context.request)) if self.of == "anchor" else given
        with torch.no_grad():
            cond = context.teacher.encode(given)
            drawn_under = context.teacher.encode(shown) if shown != given else cond
        fresh = NoisedDraws(context, batch, name, self._pictures(context, drawn_under, name), given, shown, cond)
        return fresh if not self.points else KeptDraws(fresh.kept(self.points), context.seed, batch, name)

    @property
    def max_prompts(self) -> int | None:
        """An image has one prompt."""
        return self.pictures

    def _pictures(self, context: TrainContext, cond: Conditioning, name: str) -> Tensor:
        teacher = context.teacher
        seeds = [noise_seed(context.seed, f"{name}/pictures", 0, i) for i in range(self.pictures)]
        noise = teacher.initial_noise(seeds)
        null = against(teacher, self.guidance)
        rows = max(1, context.chunk // 2)  # guidance doubles the samples of a call
        parts = range(0, self.pictures, rows)
        x = noise  # (N, c, h, w)
        for first, k in context.stages.each([(first, k) for first in parts for k in range(self.grid)]):
            here = slice(first, first + rows)
            x[here] = denoise(teacher, x[here], cond.at(here), null, self.grid, self.guidance, start=k, stop=k + 1)
        return x


@dataclass(frozen=True)
class PointPool:
    """Noised images that are kept."""

    points: NoisyBatch

    def __len__(self) -> int:
        return len(self.points.t)

    def take(self, rows: Tensor) -> NoisyBatch:
        """The points at `rows`, int64 (B,), in that order."""
        return replace(self.points.at(rows), rows=rows)

    def under(self, prompts: Sequence[str], generator: Generator) -> Tensor:
        """int64 (B,): for each prompt the place of a point under it, each of them as likely."""
        own = {text: [i for i, of in enumerate(self.points.prompts) if of == text] for text in set(prompts)}
        return torch.tensor([own[text][int(torch.randint(len(own[text]), (), generator=generator))]
                             for text in prompts])


@dataclass(frozen=True)
class KeptDraws:
    """Uniform draws, with replacement, from noised images that are kept."""

    pool: PointPool
    seed: int
    batch: int
    name: str

    def draw(self, number: int) -> NoisyBatch:
        """`batch` points."""
        generator = step_generator(self.seed, number, f"{self.name}/rows")
        return self.pool.take(torch.randint(len(self.pool), (self.batch,), generator=generator))

    def draw_extra(self, number: int, turn: int, prompts: Sequence[str]) -> NoisyBatch:
        """Points under the prompts."""
        return self.pool.take(self.pool.under(prompts, step_generator(self.seed, number, f"{self.name}/rows/{turn}")))


@dataclass(frozen=True)
class NoisedDraws:
    """Uniform draws, with replacement, from images; each with a time and noise of its own.

    Attributes:
        latents: float32 (N, c, h, w); given, shown: N prompts, what the student is told and what the images show.
        cond: (N, T, D), the frozen teacher's states of `given`.
    """

    context: TrainContext
    batch: int
    name: str
    latents: Tensor
    given: tuple[str, ...]
    shown: tuple[str, ...]
    cond: Conditioning
    pool: None = None

    def draw(self, number: int) -> NoisyBatch:
        """`batch` images at uniform times."""
        generator = step_generator(self.context.seed, number, f"{self.name}/rows")
        rows = torch.randint(len(self.latents), (self.batch,), generator=generator)
        return self._points(rows, generator, number, self.name)

    def draw_extra(self, number: int, turn: int, prompts: Sequence[str]) -> NoisyBatch:
        """Images under the prompts at new times, with new noise."""
        generator = step_generator(self.context.seed, number, f"{self.name}/rows/{turn}")
        own = {text: [i for i, text_of in enumerate(self.given) if text_of == text] for text in set(prompts)}
        rows = torch.tensor([own[text][int(torch.randint(len(own[text]), (), generator=generator))]
                             for text in prompts])
        return self._points(rows, generator, number, f"{self.name}/beside/{turn}")

    def kept(self, points: int) -> PointPool:
        """So many points of each image, at times spread over the whole schedule."""
        rows = torch.arange(len(self.latents)).repeat_interleave(points)
        generator = step_generator(self.context.seed, 0, f"{self.name}/kept")
        return PointPool(self._points(rows, generator, 0, f"{self.name}/kept"))

    def _points(self, rows: Tensor, generator: Generator, number: int, name: str) -> NoisyBatch:
        """The images at `rows`, int64 (B,), noised."""
        seed, model = self.context.seed, self.context.teacher
        t = model.process.schedule.draw(len(rows), generator).to(self.latents.device)
        eps = model.initial_noise([noise_seed(seed, name, number, i) for i in range(len(rows))])
        x0 = self.latents[rows]
        given, shown = (tuple(texts[int(i)] for i in rows) for texts in (self.given, self.shown))
        return NoisyBatch(model.process.noised(x0, eps, t), t, given, self.cond.at(rows), x0=x0, eps=eps,
                          shown=shown if shown != given else ())
