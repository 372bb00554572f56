"""One step of an update on losses written out in a test."""

from __future__ import annotations

from typing import Any

from expunge.unlearn.context import TrainContext
from expunge.unlearn.update import Descent, LossFn

NO_MODEL = TrainContext(None, None, None, 0)  # type: ignore[arg-type]
"""The context of updates of a few numbers, which have no model."""


def stepped(stepper: Any, erase: LossFn, keep: LossFn | None, params: Any, optimizer: Any, hold: LossFn | None = None
            ) -> Any:
    """The step's losses."""
    losses = {"erase": erase} if keep is None else {"erase": erase, "keep": keep}
    return stepper.step(losses, Descent(params, optimizer, hold))
