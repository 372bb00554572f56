"""Points from several sources in every step: the concept's own trajectories, its anchor's, noised images of it.

Where all sources keep their points, so does the union, and what frozen networks say there is computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor
from typing_extensions import Self

from expunge.config import Settings, knob
from expunge.unlearn.context import AnySource, Kept, NoisyBatch, Pooled, Stream, TrainContext, kept_by, spread
from expunge.unlearn.noised import NoisedPictures
from expunge.unlearn.source import FrozenTrajectory


class Union(Settings):
    """Every step takes points from the sources, from each as many as its share of the batch."""

    places: ClassVar[str] = "sources"
    kind: Literal["union"] = "union"
    sources: tuple[AnySource, ...] = knob((FrozenTrajectory(), NoisedPictures(points=20)), "The sources", min_length=1)
    shares: tuple[Annotated[float, Field(gt=0.0)], ...] = knob((), "Their shares of a step's points; equal if empty")

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.shares and len(self.shares) != len(self.sources):
            raise ValueError(f"{len(self.shares)} shares for {len(self.sources)} sources")
        return self

    @property
    def needs(self) -> tuple[str, ...]:
        """What its sources need."""
        return tuple(dict.fromkeys(need for source in self.sources for need in getattr(source, "needs", ())))

    @property
    def max_prompts(self) -> int | None:
        """As many as its smallest source has places for."""
        known = [source.max_prompts for source in self.sources if source.max_prompts is not None]
        return min(known, default=None)

    @property
    def kept(self) -> Kept:
        """Of all sources."""
        return sum(map(kept_by, self.sources), Kept())

    def open(self, context: TrainContext, prompts: Sequence[str], batch: int, name: str) -> Stream:
        """A stream of each source, under names of their own."""
        counts = split(batch, self.shares or (1.0,) * len(self.sources))
        streams = tuple(source.open(context, prompts, count, f"{name}/{place}") for place, (source, count) in
                        enumerate(zip(self.sources, counts, strict=True)) if count)
        pools = [stream.pool for stream in streams]
        whole = [pool for pool in pools if pool is not None]
        known = tuple(frozenset(prompts if source.max_prompts is None else spread(prompts, source.max_prompts))
                      for source, count in zip(self.sources, counts, strict=True) if count)
        return Joined(streams, known, JoinedPool(tuple(whole)) if len(whole) == len(pools) else None)


def split(batch: int, shares: Sequence[float]) -> list[int]:
    """`batch` by shares in whole numbers, which add up to it; some are 0 where there are more shares."""
    total = sum(shares)
    counts = [int(batch * share / total) for share in shares]
    while sum(counts) < batch:
        gaps = [batch * share / total - count for share, count in zip(shares, counts, strict=True)]
        counts[gaps.index(max(gaps))] += 1
    return counts


@dataclass(frozen=True)
class JoinedPool:
    """Pools behind one another."""

    pools: tuple[Pooled, ...]

    def __len__(self) -> int:
        return sum(map(len, self.pools))

    def take(self, rows: Tensor) -> NoisyBatch:
        """The entries at `rows`, int64 (B,), in that order."""
        parts, order, first = [], [], 0
        for pool in self.pools:
            mine = ((rows >= first) & (rows < first + len(pool))).nonzero().flatten()
            if len(mine):
                parts.append(pool.take(rows[mine] - first))
                order.append(mine)
            first += len(pool)
        return replace(NoisyBatch.cat(parts).at(torch.cat(order).argsort()), rows=rows)


@dataclass(frozen=True)
class Joined:
    """The streams of a union, the points of each behind those of the one before. `known`: the prompts that each has."""

    streams: tuple[Stream, ...]
    known: tuple[frozenset[str], ...]
    pool: Pooled | None

    def draw(self, number: int) -> NoisyBatch:
        """The points of all streams."""
        return self._placed([stream.draw(number) for stream in self.streams])

    def draw_extra(self, number: int, turn: int, prompts: Sequence[str]) -> NoisyBatch:
        """Points under the prompts, of the streams that have them in turn."""
        places: list[list[int]] = [[] for _ in self.streams]
        for place, text in enumerate(prompts):
            having = [own for own, known in zip(places, self.known, strict=True) if text in known]
            having[place % len(having)].append(place)
        parts = [stream.draw_extra(number, turn, [prompts[place] for place in own]) if own else None
                 for stream, own in zip(self.streams, places, strict=True)]
        order = torch.tensor([place for own in places for place in own])
        return self._placed(parts).at(order.argsort())

    def _placed(self, parts: Sequence[NoisyBatch | None]) -> NoisyBatch:
        """The batches behind one another, with their places in the union's pool."""
        known, first = [], 0
        for stream, part in zip(self.streams, parts, strict=True):
            if part is not None:
                rows = part.rows + first if part.rows is not None and self.pool is not None else None
                known.append(replace(part, rows=rows))
            first += len(stream.pool) if stream.pool is not None else 0
        return NoisyBatch.cat(known)
