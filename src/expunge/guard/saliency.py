"""The cheap learner: users train once without a mask, and every tensor is scored where they got to, to first order.

    s_i = mean over B batches of <theta_pre - theta_ft, dL_upper/dtheta>_i   at theta(m), m = rho everywhere

Freezing group i changes L_upper by about s_i; the most negative are frozen first. theta(rho) stands between the
published weights and the user's, where the slope tells of the way and not of its end (where it is nearly flat).

Source: ours, the first step of Huang et al. 2024 (FreezeAsGuard, 2405.17472) by itself. Differs: everything after.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from expunge.config import knob
from expunge.guard.domains import SIDES, Upper
from expunge.guard.projected import Learned, Open, Round, Rounds, rehearse
from expunge.guard.ratio import Groups
from expunge.train import Losses, Progress, run_loop


class Saliency(Rounds):
    """One user per kind and side; scores at the end."""

    kind: Literal["saliency"] = "saliency"
    batches: int = knob(32, "batches over which the scores are averaged, per user", ge=1)

    def work(self) -> tuple[int, int]:
        """Steps of users, and mask steps."""
        turns = self.turns()
        return len(turns) * self.steps, sum(len(sides) for _, sides in turns) * self.batches


def saliency(settings: Saliency, groups: Groups, opened: Open, upper: Upper, *, checkpoint: Path | None = None,
             fingerprint: str = "", progress: Progress | None = None) -> Learned:
    """Score every group once; see the module.

    Raises:
        TrainingError: a user learns nothing where nothing is frozen. As `run_loop` for the checkpoint.
    """
    turns = settings.turns()
    unheld = torch.zeros(len(settings.users.kinds), len(SIDES), dtype=torch.float64)
    total = torch.zeros(len(groups.labels), dtype=torch.float64)

    def one(number: int) -> Losses:
        kind, sides = turns[number]
        with opened(Round(number, kind, sides)) as trial:
            told = rehearse(settings, trial, upper, kind, sides, groups, unheld)
            trial.set(torch.full((len(groups.names),), settings.ratio, dtype=torch.float64))
            for batch in range(settings.batches):
                for side in sides:
                    loss = upper.loss(side, batch, float(unheld[kind, SIDES.index(side)]))
                    total.add_(groups.summed(trial.gradient(loss)), alpha=1 / settings.batches)
        return told

    trained = run_loop(one, len(turns), {"total": total, "unheld": unheld}, {}, checkpoint=checkpoint,
                       fingerprint=fingerprint, progress=progress)
    weights = groups.weights(settings.by)
    return Learned(-total / weights if settings.by == "numel" else -total, trained)
