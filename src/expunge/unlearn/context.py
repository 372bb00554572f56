"""What every part of a recipe works with, and the noisy latents x_t that sources hand to objectives.

A source is settings; `open` turns it into a `Stream`, which gives the points of a step from the step's number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Protocol

import torch
from torch import Generator, Tensor
from torch.nn import Parameter

from expunge.config import Slot
from expunge.errors import ExpungeError
from expunge.models.conditioning import Conditioning
from expunge.models.model import Model
from expunge.records import Request
from expunge.registry import SOURCES
from expunge.train import step_generator
from expunge.unlearn.stages import Stages


@dataclass(frozen=True)
class TrainContext:
    """What every part of a recipe works with.

    Attributes:
        student: the model being edited; teacher: the same model, frozen, as it was.
        request: what is to be unlearned.
        seed: the run's seed.
        text_trains: whether the student's text encoder changes (then its prompts are encoded anew in every
            step).
        chunk: samples per call of the frozen teacher.
        stages: how work before the first step is gone through.
        own_text: the student's text states by prompt, where they are not the teacher's and do not train.
        erasing: the points of the erase loss, for a keep that also looks there.
        params: what trains, by name. times_rate: factor of every learning rate of it, for a LoRA begins at 0.
        resumed: what an earlier run of the same inputs had kept of its adversary; empty where there was none.
    """

    student: Model
    teacher: Model
    request: Request
    seed: int
    text_trains: bool = False
    chunk: int = 16
    stages: Stages = field(default_factory=Stages)
    own_text: dict[str, Conditioning] = field(default_factory=dict)
    erasing: Stream | None = None
    params: Mapping[str, Parameter] = field(default_factory=dict)
    times_rate: float = 1.0
    resumed: Mapping[str, Tensor] = field(default_factory=dict)

    def condition(self, points: NoisyBatch) -> Conditioning:
        """What the student is told at `points`; with gradient where its text encoder trains."""
        return self.conditioning(points.prompts, points.cond)

    def conditioning(self, prompts: Sequence[str], known: Conditioning) -> Conditioning:
        """The student's text states of `prompts`, of which the teacher's are `known`.

        A student that was edited before may have another text encoder than the teacher; then each prompt is encoded
        once by its own.
        """
        if self.text_trains:
            return self.student.encode(prompts)
        if self.student.encoder_hash == self.teacher.encoder_hash:
            return known
        with torch.no_grad():
            for text in dict.fromkeys(prompts):
                if text not in self.own_text:
                    self.own_text[text] = self.student.encode([text])
        return Conditioning.cat(self.own_text[text] for text in prompts)

    @torch.no_grad()
    def told(self, points: NoisyBatch) -> Tensor:
        """What the frozen teacher predicts for the points' prompts, float32 (B, c, h, w), native output.

        On trajectories to these prompts it is known since they were drawn.
        """
        if points.said is not None and not points.shown:
            return points.said
        return self.teacher.predict(points.x_t, points.t, points.cond)

    @torch.no_grad()
    def told_nothing(self, points: NoisyBatch) -> Tensor:
        """What the frozen teacher predicts at the points for the empty prompt, float32 (B, c, h, w), native output."""
        return self.teacher.predict(points.x_t, points.t, self.teacher.encode([""]).repeat(len(points.t)))

    def null(self) -> Conditioning:
        """One row: what the student's guidance goes away from, as it is sampled."""
        return self.conditioning([""], self.teacher.unconditional()) if self.teacher.denoiser.null == "empty" else \
            self.student.unconditional()


@dataclass(frozen=True)
class NoisyBatch:
    """Noisy latents to train on.

    Attributes:
        x_t: float32 (B, c, h, w), no gradient.
        t: float32 (B,), the exact time of each.
        prompts: B prompts, what the student is told; the latents were drawn under them, unless `shown` says else.
        cond: the frozen teacher's text states of the prompts.
        rows: int64 (B,) places in the stream's pool; None where there is no pool.
        shown: B prompts under which the latents were drawn, where these are others (the anchor's); () elsewhere.
        x0, eps: float32 (B, c, h, w), the clean latents and the noise that x_t is made of; None on trajectories.
        said: float32 (B, c, h, w), what the frozen teacher predicts told what they were drawn under; None where that is
            not known without asking.
    """

    x_t: Tensor
    t: Tensor
    prompts: tuple[str, ...]
    cond: Conditioning
    rows: Tensor | None = None
    shown: tuple[str, ...] = ()
    x0: Tensor | None = None
    eps: Tensor | None = None
    said: Tensor | None = None

    def at(self, places: Tensor) -> NoisyBatch:
        """The points at `places`, int64 (N,), in that order."""
        pick = lambda tensor: None if tensor is None else tensor[places.to(tensor.device)]
        texts, shown = (tuple(each[int(i)] for i in places) if each else () for each in (self.prompts, self.shown))
        return NoisyBatch(self.x_t[places], self.t[places], texts, self.cond.at(places), pick(self.rows), shown,
                          pick(self.x0), pick(self.eps), pick(self.said))

    @classmethod
    def cat(cls, parts: Sequence[NoisyBatch]) -> NoisyBatch:
        """Batches behind one another; what one of them does not have, the whole has not."""
        def joined(name: str) -> Tensor | None:
            values = [value for part in parts if (value := getattr(part, name)) is not None]
            return torch.cat(values) if len(values) == len(parts) else None

        texts = tuple(text for part in parts for text in part.prompts)
        shown = tuple(text for part in parts for text in (part.shown or part.prompts))
        return cls(torch.cat([part.x_t for part in parts]), torch.cat([part.t for part in parts]), texts,
                   Conditioning.cat([part.cond for part in parts]), joined("rows"), shown if shown != texts else (),
                   joined("x0"), joined("eps"), joined("said"))

    @property
    def made_of(self) -> tuple[Tensor, Tensor]:
        """x0 and eps. ExpungeError: the points lie on a trajectory, which has no noise of its own."""
        if self.x0 is None or self.eps is None:
            raise ExpungeError("points of a trajectory, where the noise is asked for", accepted="the source 'noised'")
        return self.x0, self.eps


class Pooled(Protocol):
    """Points that are kept, so that what frozen networks say at each is computed once."""

    def __len__(self) -> int: ...

    def take(self, rows: Tensor) -> NoisyBatch:
        """The points at `rows`, int64 (B,), in that order."""
        ...


@dataclass(frozen=True)
class Pool:
    """Trajectories kept at every grid point; entry i*S + k is trajectory i at point k.

    Attributes:
        x_t: float32 (N, S, c, h, w); t: float32 (S,), the grid; prompts: N; cond: N rows, the teacher's.
        shown: N prompts under which they were drawn, where these are others; () elsewhere.
        said: float32 (N, S, c, h, w), what the teacher predicted of each on the way, told that; None: not kept.
    """

    x_t: Tensor
    t: Tensor
    prompts: tuple[str, ...]
    cond: Conditioning
    shown: tuple[str, ...] = ()
    said: Tensor | None = None

    def __len__(self) -> int:
        return int(self.x_t.shape[0] * self.x_t.shape[1])

    def take(self, rows: Tensor) -> NoisyBatch:
        """The entries at `rows`, int64 (B,)."""
        i, k = rows // len(self.t), rows % len(self.t)
        prompts, shown = (tuple(texts[int(j)] for j in i) if texts else () for texts in (self.prompts, self.shown))
        said = None if self.said is None else self.said[i, k]
        return NoisyBatch(self.x_t[i, k], self.t[k], prompts, self.cond.at(i), rows, shown, said=said)

    def under(self, prompts: Sequence[str], generator: Generator) -> Tensor:
        """int64 (B,): for each prompt the place of an entry under it, each of them as likely."""
        own = {text: [i for i, prompt in enumerate(self.prompts) if prompt == text] for text in set(prompts)}
        i = [own[text][int(torch.randint(len(own[text]), (), generator=generator))] for text in prompts]
        k = torch.randint(len(self.t), (len(i),), generator=generator)
        return torch.tensor(i) * len(self.t) + k


class Stream(Protocol):
    """An opened source. `pool` holds all points it will ever give, or None if every draw is new."""

    @property
    def pool(self) -> Pooled | None: ...

    def draw(self, number: int) -> NoisyBatch:
        """The points of step `number`; the same number gives the same points (for the same student)."""
        ...

    def draw_extra(self, number: int, turn: int, prompts: Sequence[str]) -> NoisyBatch:
        """Further points for step `number`, draw number `turn`: one under each of `prompts`, which the stream knows.

        Times and noise are drawn anew, as `draw` would draw them.
        """
        ...


@dataclass(frozen=True)
class Kept:
    """What a source keeps for a whole run.

    Attributes:
        latents: how many, the targets of one prediction for each point among them; rows: of text states.
    """

    latents: int = 0
    rows: int = 0

    def __add__(self, other: Kept) -> Kept:
        """Of both."""
        return Kept(self.latents + other.latents, self.rows + other.rows)


class Source(Protocol):
    """Settings from which a stream can be opened.

    One that keeps points tells how much by a property `kept`, and by `places` which setting says for how many prompts.
    """

    def open(self, context: TrainContext, prompts: Sequence[str], batch: int, name: str) -> Stream:
        """A stream of `batch` points per step under `prompts`; `name` keeps its draws apart from others'."""
        ...

    @property
    def max_prompts(self) -> int | None:
        """How many prompts can be drawn from at most; None: all, however many."""
        ...


def kept_by(source: Source) -> Kept:
    """What a source keeps; one that does not tell keeps nothing."""
    told: Kept = getattr(source, "kept", Kept())
    return told


AnySource = Annotated[Source, Slot(SOURCES, "frozen")]
"""Any registered source, by its kind, or an object."""


def spread(prompts: Sequence[str], count: int) -> tuple[str, ...]:
    """`count` prompts, evenly spaced: each as often as any other, to one, if they are few.

    If they are many, blocks of them (the targets of a request) keep their shares.
    """
    return tuple(prompts[i * len(prompts) // count] for i in range(count))


def noise_seed(seed: int, name: str, number: int, item: int) -> int:
    """Seed of one item's noise in step `number` of the stream `name`."""
    return step_generator(seed, number, f"{name}/noise/{item}").initial_seed()
