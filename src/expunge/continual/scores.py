"""What a sequence of tasks leaves behind.

With R[k][j] the accuracy on task j after training on task k (j <= k, K tasks),

    final average       mean_j R[K-1][j]
    forgetting          mean_{j < K-1} (max_{k < K-1} R[k][j] - R[K-1][j])       0 for one task; below 0 is a gain
    backward transfer   mean_{j < K-1} (R[K-1][j] - R[j][j])

Source: Lopez-Paz and Ranzato 2017 (GEM), Chaudhry et al. 2018 (forgetting). Differs: none.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from pydantic import field_validator

from expunge.records import Record


class AccuracyMatrix(Record):
    """Accuracies after each task.

    Attributes:
        rows: rows[k][j] in [0, 1], accuracy on task j after task k; row k has k + 1 entries.
    """

    rows: tuple[tuple[float, ...], ...]

    @field_validator("rows")
    @classmethod
    def _triangle(cls, rows: tuple[tuple[float, ...], ...]) -> tuple[tuple[float, ...], ...]:
        if not rows or any(len(row) != k + 1 for k, row in enumerate(rows)):
            raise ValueError("row k of an accuracy matrix has k + 1 entries, and there is one row at least")
        if any(not 0.0 <= value <= 1.0 for row in rows for value in row):
            raise ValueError("accuracies lie between 0 and 1")
        return rows

    @property
    def final_average(self) -> float:
        """Mean accuracy over all tasks after the last one."""
        return fmean(self.rows[-1])

    @property
    def forgetting(self) -> float:
        """How much accuracy each earlier task has lost from its best; 0 for a single task."""
        last, earlier = self.rows[-1], self.rows[:-1]
        return _mean([max(row[j] for row in earlier[j:]) - last[j] for j in range(len(earlier))])

    @property
    def backward_transfer(self) -> float:
        """How much later tasks have added to what each earlier task had when it was learned; 0 for a single task."""
        return _mean([self.rows[-1][j] - self.rows[j][j] for j in range(len(self.rows) - 1)])

    @property
    def learned(self) -> float:
        """Mean accuracy of each task when it was learned."""
        return fmean(row[-1] for row in self.rows)


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else 0.0
