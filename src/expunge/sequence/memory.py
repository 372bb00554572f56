"""Points with frozen targets: what each request leaves behind of itself, and the original's own predictions elsewhere.

A memory holds half-way samples under prompts for the concept, the last of each trajectory nearly an image of it: keep
it as private as the request. It can be made again from prompts and seeds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from expunge import untrusted
from expunge.errors import ModelError, UserError
from expunge.files import text_digest, write_tensors
from expunge.metrics.worlds import world_of
from expunge.models.conditioning import Conditioning
from expunge.models.hashing import tensors_hash
from expunge.models.model import Model
from expunge.models.sample import encoded as sample_encoded
from expunge.sequence.strategy import OtherPrompts, Replay
from expunge.unlearn.context import NoisyBatch, Pooled, TrainContext, spread
from expunge.unlearn.objective import tabulated
from expunge.unlearn.source import FrozenTrajectory

FORMAT = "expunge-memory/1"
_AGAIN = "delete the file, then it is made again"


@runtime_checkable
class Targeted(Protocol):
    """An objective that trains towards a target at each point."""

    def target(self, context: TrainContext, points: NoisyBatch) -> Tensor:
        """(B, c, h, w), native output, no gradient."""
        ...


@dataclass(frozen=True)
class ReplayBuffer:
    """N points and what is to be predicted there.

    Attributes:
        x_t: float32 (N, c, h, w); t: float32 (N,); prompts: N; z: float32 (N, c, h, w), native output.
        about: what each prompt asks for, by prompt; only where the prompts were made of things.
    """

    x_t: Tensor
    t: Tensor
    prompts: tuple[str, ...]
    z: Tensor
    about: dict[str, str]

    @property
    def hash(self) -> str:
        """Content hash of points, prompts and targets."""
        payload = json.dumps([self.prompts, self.about, tensors_hash({"x_t": self.x_t, "t": self.t, "z": self.z})])
        return text_digest(payload)

    def only(self, wanted: Callable[[str], bool]) -> ReplayBuffer:
        """The points whose prompts are wanted."""
        rows = torch.tensor([i for i, prompt in enumerate(self.prompts) if wanted(prompt)], dtype=torch.int64)
        return replace(self, x_t=self.x_t[rows], t=self.t[rows], z=self.z[rows],
                       prompts=tuple(self.prompts[int(i)] for i in rows))

    def save(self, path: Path) -> None:
        """Write safetensors, atomically."""
        tensors = {name: value.detach().cpu().contiguous() for name, value in
                   (("x_t", self.x_t), ("t", self.t), ("z", self.z))}
        write_tensors(path, tensors, {"format": FORMAT, "prompts": json.dumps(self.prompts),
                                      "about": json.dumps(self.about), "hash": self.hash})

    @classmethod
    def read(cls, path: Path, device: torch.device | str = "cpu") -> ReplayBuffer:
        """What `save` wrote.

        Raises:
            ModelError: there is none, or it is damaged.
        """
        try:
            with untrusted.tensors(path) as file:
                meta: dict[str, str] = file.metadata() or {}
                x_t, t, z = (file.get_tensor(name) for name in ("x_t", "t", "z"))
            memory = cls(x_t, t, tuple(untrusted.json_in(meta["prompts"])), z, untrusted.json_in(meta["about"]))
        except (OSError, KeyError, ValueError) as error:
            raise ModelError(f"the points in {path} cannot be read: {error}", remedy=_AGAIN) from error
        if meta.get("format") != FORMAT or meta.get("hash") != memory.hash:
            raise ModelError(f"the points in {path} are damaged", remedy=_AGAIN)
        return replace(memory, x_t=x_t.to(device), t=t.to(device), z=z.to(device))


def left_behind(context: TrainContext, objective: object, settings: Replay) -> ReplayBuffer:
    """What a request leaves behind: half-way samples of the teacher under its prompts, and what it trained to there.

    Where the objective names no target, what the student predicts now that it is trained.

    Args:
        context: of the finished edit: the student has it in its weights.
    """
    source = FrozenTrajectory(grid=settings.grid, guidance=settings.guidance, trajectories=settings.trajectories)

    @torch.no_grad()
    def reached(points: NoisyBatch) -> Tensor:
        return context.student.predict(points.x_t, points.t, context.student.encode(points.prompts))

    aimed = objective if isinstance(objective, Targeted) else None
    wanted = reached if aimed is None else lambda points: aimed.target(context, points)
    return _recorded(_pool(context, source, context.request.all_prompts, "replay"), wanted, context, {})


def elsewhere(context: TrainContext, settings: OtherPrompts, kept: Sequence[str] = ()) -> ReplayBuffer:
    """What the original predicts on prompts for other things (all of its world, if none are named), and the empty one.

    Args:
        kept: prompts that must stay by somebody's wish; all of them are in it.

    Raises:
        UserError: a thing that the world does not know, or none to be had.
    """
    vocabulary = world_of(context.teacher.world, context.teacher.name).prompts.vocabulary(settings.prompts.things)
    about = {prompt: thing for thing, prompts in vocabulary.items()
             for prompt in spread(prompts, min(settings.prompts.each, len(prompts))) if prompt not in kept}
    room = check_room(settings, kept)
    chosen = ("", *kept, *spread([*about], min(room, len(about))))
    source = FrozenTrajectory(grid=settings.grid, guidance=settings.guidance, trajectories=settings.trajectories)

    @torch.no_grad()
    def original(points: NoisyBatch) -> Tensor:
        return context.told(points)

    return _recorded(_pool(context, source, chosen, "elsewhere"), original, context,
                     {text: about[text] for text in chosen if text in about})


def check_room(settings: OtherPrompts, kept: Sequence[str]) -> int:
    """How many trajectories are left for prompts that nobody named, beside the empty one and those `kept`.

    Raises:
        UserError: none.
    """
    room = settings.trajectories - 1 - len(kept)
    if room < 1:
        raise UserError(f"{settings.trajectories} trajectories for {len(kept)} prompts to keep and others",
                        accepted=f"{len(kept) + 2} at least", remedy="raise holding.others.trajectories, or keep less")
    return room


def encoded(model: Model, prompts: Sequence[str]) -> tuple[dict[str, int], Conditioning]:
    """Text states of each distinct prompt, encoded alone, and their rows by prompt; no gradient."""
    each = {text: row for row, text in enumerate(dict.fromkeys(prompts))}
    with torch.no_grad():
        return each, sample_encoded(model, [*each])[0]


def _pool(context: TrainContext, source: FrozenTrajectory, prompts: Sequence[str], name: str) -> Pooled:
    pool = source.open(context, prompts, 1, name).pool
    assert pool is not None  # trajectories of the frozen model are pooled
    return pool


def _recorded(pool: Pooled, wanted: Callable[[NoisyBatch], Tensor], context: TrainContext, about: dict[str, str]
              ) -> ReplayBuffer:
    z, everything = tabulated(context, pool, wanted), pool.take(torch.arange(len(pool)))
    return ReplayBuffer(everything.x_t, everything.t, everything.prompts, z, about)
