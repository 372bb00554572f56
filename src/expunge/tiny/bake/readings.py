"""What a flow transformer reads of prompts, made once and kept: states of all their tokens, and pooled states."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from expunge.tiny.world import BACKGROUNDS, STYLES, THINGS, Scene, captions

CAPTIONS_PER_SCENE = 12


@dataclass(frozen=True)
class Readings:
    """What the transformer reads of prompts.

    Attributes:
        states: (N, T, D).
        pooled: (N, P).
    """

    states: Tensor
    pooled: Tensor

    def at(self, rows: Tensor) -> Readings:
        """Those of the prompts at `rows`, float32."""
        return Readings(self.states[rows].float(), self.pooled[rows].float())


def read_scenes(read: Callable[[Sequence[str]], Readings], scenes: Tensor, seed: int) -> tuple[Readings, Tensor]:
    """Readings of `CAPTIONS_PER_SCENE` captions of each scene, scene after scene, and (N,) which scene each row of
    `scenes` (N, 3: object, style, background) is.
    """
    objects, styles, grounds = list(THINGS), list(STYLES), list(BACKGROUNDS)
    unique, which = scenes.unique(dim=0, return_inverse=True)
    texts = [caption.text for o, s, b in unique.tolist() for caption in
             itertools.islice(captions(Scene(objects[o], styles[s], grounds[b]), seed), CAPTIONS_PER_SCENE)]
    return read(texts), which


def ids_of(tokenizer: Any, texts: Sequence[str]) -> Tensor:
    """int64 (N, T), cut and padded to the tokenizer's own length."""
    ids: Tensor = tokenizer(list(texts), padding="max_length", max_length=tokenizer.model_max_length, truncation=True,
                            return_tensors="pt").input_ids
    return ids


def ends_of(tokenizer: Any, texts: Sequence[str]) -> list[int]:
    """Where each text ends: the place of its first end token."""
    ends: list[int] = (ids_of(tokenizer, texts) == tokenizer.eos_token_id).int().argmax(1).tolist()
    return ends
