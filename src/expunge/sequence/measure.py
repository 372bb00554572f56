"""How a state is measured: as any patch is, but always on all requests that stand, those to come included.

So every state answers the same prompts, and what is drawn by the original is drawn once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from expunge.evaluation import EvaluateSettings, planned_prompts
from expunge.evaluation.plan import prompts_digest
from expunge.metrics.prompts import Prompts
from expunge.models.patch import Patch
from expunge.records import EVALUATIONS, Evaluation, Request
from expunge.resume import kept
from expunge.sequence.settings import SequenceSettings

if TYPE_CHECKING:
    from expunge.sequence.states import State

FOLDER = "evaluation"


def about(patch: Patch, request: Request) -> Patch:
    """The patch, to be measured on `request`."""
    return replace(patch, card=patch.card.model_copy(update={"request": request}))


def kept_evaluation(state: State, patch: Patch, request: Request, settings: SequenceSettings,
                    asks: Prompts) -> Evaluation | None:
    """What an earlier run measured of the state; None if it did not, measured otherwise, or left it damaged.

    A file of prompts may change under its name: what would be asked now is compared, too.
    """
    folder = state.folder / FOLDER
    there = kept(EVALUATIONS.read, folder, EVALUATIONS.name)
    if settings.evaluation is None or there is None:
        return None
    wanted = settings.evaluation.model_dump(mode="json")
    since = EvaluateSettings().model_dump(mode="json")  # what an earlier version did not know was as it is by default
    same = all(there.settings.get(name, since.get(name)) == value for name, value in wanted.items() if name != "batch")
    same = same and there.prompts_hash in ("", prompts_digest(planned_prompts(asks, request, settings.evaluation)))
    return there if same and there.card.request == request and there.card.tensors_hash == patch.hash else None
