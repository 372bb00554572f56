"""What an edit goes on from when others came before it: the seam between a recipe and a sequence of requests.

A recipe alone knows one model, which is student and teacher at once. In a sequence the student is the model as the last
request left it, while the teacher may be the original, and something must hold on to the earlier edits. Who made these
requests and what is held on to is not the recipe's business (`expunge.sequence` is one answer).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from torch.nn import Parameter

from expunge.models.model import Model
from expunge.unlearn.context import TrainContext
from expunge.unlearn.objective import Term
from expunge.unlearn.update import Stepper


class PriorEdits(Protocol):
    """What came before an edit.

    Attributes:
        teacher: the frozen model that targets and half-way samples come from, another object than the student; None:
            the student as it begins.
        gone: names of the concepts that are gone already: no prompt that names one of them is kept.
        digest: hash of all in it that decides the weights.
    """

    @property
    def teacher(self) -> Model | None: ...

    @property
    def gone(self) -> Sequence[str]: ...

    @property
    def digest(self) -> str: ...

    def terms(self, context: TrainContext, params: Mapping[str, Parameter]) -> Sequence[Term]:
        """Losses, weighted, that hold on to it; beside the recipe's own erase and keep, in the steps they ask for."""
        ...

    def around(self, context: TrainContext, stepper: Stepper, params: Mapping[str, Parameter]) -> Stepper:
        """The recipe's stepper, or another one around it."""
        ...
