"""Values by item and their mean over prompts: CLIP scores, distances of pairs, whatever is one number per image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from typing_extensions import Self

from expunge.errors import ExpungeError
from expunge.metrics.statistics import bootstrap_over_groups, bootstrap_words
from expunge.metrics.stream.base import Accumulator, State
from expunge.records import NOT_FINITE, ItemKey, Score


@dataclass(frozen=True)
class Meaning:
    """What the values are: the words of their score."""

    name: str
    title: str
    denominator: str
    of: str = "images"
    subject: Literal["edited", "original", "comparison"] = "edited"
    higher_is_better: bool | None = None


def clip_score(clip: str, name: str = "clip/all", subject: Literal["edited", "original"] = "edited"
               ) -> Meaning:
    """100 x cosine of image and prompt by the CLIP of this name (with its hash)."""
    return Meaning(name, "CLIP score", f"100 x cosine of image and prompt; {clip}", subject=subject)


def pair_distance(distance: str, name: str = "perceptual/all") -> Meaning:
    """A distance of the two models' images from the same prompt and seed, by its name (with its hash)."""
    return Meaning(name, "perceptual change at the same seeds", f"same prompt, same seed; {distance}",
                   "pairs of images", "comparison")


class ItemValues(Accumulator):
    """One number per item; the score is the mean over prompts of the mean over seeds.

    Attributes:
        meaning: what they are.
    """

    kind = "item values"

    def __init__(self, meaning: Meaning) -> None:
        super().__init__()
        self.meaning = meaning
        self._all: list[float] = []

    def add(self, items: Sequence[ItemKey], values: Tensor | Sequence[float]) -> None:
        """Take in a value per item; one that is not finite is counted in `left_out`.

        Raises:
            ExpungeError: another number of values, or an item that is there.
        """
        numbers = torch.as_tensor(values, dtype=torch.float64).reshape(-1)
        if len(numbers) != len(items):
            raise ExpungeError(f"{len(numbers)} values for {len(items)} items", accepted="one value per item")
        there = numbers.isfinite().tolist()
        self._take(items, ["" if whole else NOT_FINITE for whole in there])
        self._all += [value for value, whole in zip(numbers.tolist(), there, strict=True) if whole]

    def merge(self, other: Self) -> None:
        """Take in what another process saw; its items follow."""
        if other.meaning != self.meaning:
            raise ExpungeError(f"values of {other.meaning.name} ({other.meaning.denominator})",
                               accepted=f"{self.meaning.name} ({self.meaning.denominator})")
        self._merged(other)
        self._all += other._all

    def _reorder(self, rows: Sequence[int]) -> None:
        self._all = [self._all[row] for row in rows]

    @property
    def by_item(self) -> Mapping[ItemKey, float]:
        """Value by (prompt, seed)."""
        return dict(zip(self.items, self._all, strict=True))

    def score(self, *, draws: int = 2000, seed: int = 0) -> Score:
        """The mean with its interval: a bootstrap over prompts."""
        groups: dict[str, list[float]] = {}
        for (text, _), value in zip(self.items, self._all, strict=True):
            groups.setdefault(text, []).append(value)
        estimate = bootstrap_over_groups(groups, draws, seed)
        return Score(**asdict(self.meaning), value=estimate.value, low=estimate.low, high=estimate.high,
                     interval=bootstrap_words(estimate, draws, seed), n=self.n, prompts=len(groups),
                     left_out=self.left_out, seeds=tuple(sorted({number for _, number in self.items})),
                     per_item={f"{text} | {number}": value for (text, number), value in self.by_item.items()},
                     note="" if self.n else "not measured: nothing that could be")

    @property
    def state(self) -> State:
        """All of it, for a file."""
        return State(self.kind, {"values": torch.tensor(self._all, dtype=torch.float64)},
                     {**self._values(), "meaning": asdict(self.meaning)})

    @classmethod
    def from_state(cls, state: State) -> Self:
        """The accumulator of a state. Raises UserError if it is another kind's."""
        told: Any = state.values.get("meaning", {"name": "", "title": "", "denominator": ""})
        out = cls(Meaning(**told))
        out._fill(state)
        out._all = state.tensors["values"].tolist()
        return out
