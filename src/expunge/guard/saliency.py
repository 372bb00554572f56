"""The cheap learner: users train once without a mask, and every tensor is scored where they got to, to first order.

    s_i = mean over B batches of <theta_pre - theta_ft, dL_upper/dtheta>_i   at theta(m), m = rho everywhere

Freezing group i changes L_upper by about s_i; the most negative are frozen first. theta(rho) stands between the
published weights and the user's, where the slope tells of the way and not of its end (where it is nearly flat).

Source: ours, the first step of Huang et al. 2024 (FreezeAsGuard, 2405.17472) by itself. Differs: everything after.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch

from expunge.config import knob
from expunge.guard.domains import SIDES, PublisherImages, Upper
from expunge.guard.projected import MaskScores, Open, Turn, UserRounds, rehearse, sum_of_gradients
from expunge.guard.ratio import Groups
from expunge.resume import Inputs
from expunge.train import Losses, Progress, run_loop


class Saliency(UserRounds):
    """One user per kind and thing; scores at the end."""

    kind: Literal["saliency"] = "saliency"
    batches: int = knob(32, "batches over which the scores are averaged, per user", ge=1)

    def work(self, publisher: PublisherImages) -> tuple[int, int]:
        """Steps of users, and mask steps."""
        turns = self.turns(publisher)
        return len(turns) * self.steps, sum(len(turn.subjects) for turn in turns) * self.batches


def saliency(settings: Saliency, turns: Sequence[Turn], groups: Groups, opened: Open, upper: Upper, *,
             checkpoint: Path | None = None, under: Inputs | None = None, progress: Progress | None = None
             ) -> MaskScores:
    """Score every group once; see the module.

    Raises:
        TrainingError: a user learns nothing where nothing is frozen. As `run_loop` for the checkpoint.
    """
    unheld = torch.zeros(len(turns), len(SIDES), dtype=torch.float64)
    total = torch.zeros(len(groups.labels), dtype=torch.float64)

    def one(number: int) -> Losses:
        turn = turns[number]
        with opened(number, turn) as trial:
            scored = rehearse(settings, trial, upper, turn, groups, unheld[number])
            trial.set(torch.full((len(groups.names),), settings.ratio, dtype=torch.float64))
            for batch in range(settings.batches):
                g = sum_of_gradients(trial, upper, turn, batch, unheld[number].tolist(), groups)
                total.add_(g, alpha=1 / settings.batches)
        return scored

    trained = run_loop(one, len(turns), {"total": total, "unheld": unheld}, {}, checkpoint=checkpoint,
                       under=under, progress=progress)
    return MaskScores(-total / groups.weights("numel") if settings.by == "numel" else -total, trained)
