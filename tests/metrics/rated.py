"""Rates of judged pictures by their names, for tests."""

from __future__ import annotations

from collections.abc import Sequence

from expunge.metrics.base import Aim
from expunge.metrics.erasure import Judged
from expunge.metrics.rates import rates
from expunge.records import Score


def rated(after: Judged, aims: Sequence[Aim], before: Judged | None = None) -> dict[str, Score]:
    """Every rate of `after`, with `before` (default: the same) as the original's."""
    scores, _ = rates(before if before is not None else after, after, aims)
    return {score.name: score for score in scores}
