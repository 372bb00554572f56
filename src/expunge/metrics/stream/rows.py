"""Features that stay while their images go: FID with an interval, KID, precision and recall of any number of images.

10,000 images of Inception features are 80 MB; their pixels at 512 x 512 would be 31 GB.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import Self

from expunge.errors import ExpungeError
from expunge.metrics.base import Moments
from expunge.metrics.fidelity import coverage_of, items_against_original, items_against_real
from expunge.metrics.rules import Subject
from expunge.metrics.stream.base import Accumulator, State
from expunge.records import NOT_FINITE, ItemKey, Score


class FeatureRows(Accumulator):
    """Features float32 (N, F) by item.

    Attributes:
        features: name, with hash and resizer, of what made them.
    """

    kind = "feature rows"

    def __init__(self, features: str, width: int) -> None:
        """None yet; `width` F is that of a feature."""
        super().__init__()
        self.features, self.width = features, width
        self._parts: list[Tensor] = []

    def add(self, items: Sequence[ItemKey], features: Tensor) -> None:
        """Take in features (B, F); a row that is not finite is counted in `left_out`.

        Raises:
            ExpungeError: another width or number of rows, or an item that is there.
        """
        if features.ndim != 2 or features.shape[1] != self.width or len(features) != len(items):
            raise ExpungeError(f"features of shape {tuple(features.shape)} for {len(items)} items",
                               accepted=f"({len(items)}, {self.width})")
        there = features.isfinite().all(1).cpu()
        self._take(items, ["" if whole else NOT_FINITE for whole in there.tolist()])
        self._parts.append(features.detach().cpu()[there].float())

    def merge(self, other: Self) -> None:
        """Take in what another process saw; its items follow."""
        if other.features != self.features:
            raise ExpungeError(f"features of {other.features}", accepted=self.features)
        self._merged(other)
        self._parts += other._parts

    def _reorder(self, rows: Sequence[int]) -> None:
        self._parts = [self.rows[list(rows)]]

    @property
    def rows(self) -> Tensor:
        """float32 (N, F), in the order of `items`."""
        return torch.cat(self._parts) if self._parts else torch.zeros(0, self.width)

    def against(self, original: FeatureRows, *, draws: int = 100, seed: int = 0, of: str = "images") -> list[Score]:
        """fid/original, kid/original, precision/original and recall/original over the items that both have.

        Items of one side alone are counted in `left_out`.

        Raises:
            ExpungeError: features by another extractor.
        """
        if original.features != self.features:
            raise ExpungeError(f"features of {original.features}", accepted=self.features)
        place = {item: row for row, item in enumerate(original.items)}
        mine = [row for row, item in enumerate(self.items) if item in place]
        items = [self.items[row] for row in mine]
        x, y = self.rows[mine], original.rows[[place[item] for item in items]]
        scores = items_against_original(items, x, y, self.features, draws=draws, seed=seed, of=of)
        either = {**self._lost, **original._lost}
        alone = sum(item not in either for item in {*self.items} ^ {*original.items})
        lost = dict(Counter(either.values()) + self._counts) | ({"on one side alone": alone} if alone else {})
        return [_with(score, lost) for score in scores + coverage_of(items, x, y, self.features, of)]

    def against_real(self, real: Moments, *, draws: int = 100, seed: int = 0, subject: Subject = "edited",
                     of: str = "images") -> list[Score]:
        """fid/real and kid/real.

        Raises:
            ExpungeError: the statistics were made with another extractor or resizer.
        """
        scores = items_against_real(self.items, self.rows, real, self.features, draws=draws, seed=seed,
                                    subject=subject, of=of)
        return [_with(score, self.left_out) for score in scores]

    @property
    def state(self) -> State:
        """All of it, for a file."""
        return State(self.kind, {"rows": self.rows},
                     {**self._values(), "features": self.features})

    @classmethod
    def from_state(cls, state: State) -> Self:
        """The accumulator of a state. Raises UserError if it is another kind's."""
        rows = state.tensors["rows"] if "rows" in state.tensors else torch.zeros(0, 0)
        out = cls(state.values.get("features", ""), rows.shape[1])
        out._fill(state)
        out._parts = [rows]
        return out


def _with(score: Score, left_out: dict[str, int]) -> Score:
    return score.model_copy(update={"left_out": {**score.left_out, **left_out}}) if left_out else score
