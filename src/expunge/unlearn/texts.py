"""Prompts without images: points for objectives that look at what the text encoders say and never ask the denoiser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from expunge.config import Settings
from expunge.models.conditioning import Conditioning
from expunge.train import in_turn
from expunge.unlearn.context import NoisyBatch, Stream, TrainContext
from expunge.unlearn.needs import Need


class Texts(Settings):
    """Prompts alone, in shuffled rounds."""

    kind: Literal["texts"] = "texts"

    @property
    def needs(self) -> tuple[Need, ...]:
        """No adversary: there are no latents at which it could ask the denoiser."""
        return ("no adversary",)

    @property
    def max_prompts(self) -> int | None:
        """None: as many as there are."""
        return None

    def open(self, context: TrainContext, prompts: Sequence[str], batch: int, name: str) -> Stream:
        """Each prompt is read by the teacher once."""
        given = tuple(prompts)
        with torch.no_grad():
            known = Conditioning.cat([context.teacher.encode([text]) for text in given]).detach()
        return TextDraws(given, known, batch, name, context.seed)


@dataclass(frozen=True)
class TextDraws:
    """Rounds of prompts. `known`: the teacher's states of each."""

    prompts: tuple[str, ...]
    known: Conditioning
    batch: int
    name: str
    seed: int
    pool: None = None

    def draw(self, number: int) -> NoisyBatch:
        """`batch` prompts, at no latent and no time."""
        return self._points(in_turn(len(self.prompts), self.batch, number, self.seed, self.name))

    def draw_extra(self, number: int, turn: int, prompts: Sequence[str]) -> NoisyBatch:
        """These prompts."""
        return self._points(torch.tensor([self.prompts.index(text) for text in prompts], dtype=torch.int64))

    def _points(self, rows: Tensor) -> NoisyBatch:
        nothing = torch.zeros(len(rows), 0, 0, 0, device=self.known.device)
        return NoisyBatch(nothing, torch.zeros(len(rows), device=self.known.device),
                          tuple(self.prompts[int(row)] for row in rows), self.known.at(rows))
