"""The default learner: simulated users, each from the published weights on, and a mask that is projected on its ratio.

    round:     a user of some kind starts at theta_pre and trains on the users' half of one thing's images
               every `interval` steps after `settle` of them:  g += d L_upper / d m
    every two: x <- projected step against g, once a forbidden and an innocent thing have been met

A mask that moved during a round would fit that user's own accidents; one that moved after each would swing between
freezing what all users need and what none does. The first rounds are rehearsals without a mask: what users gain there
is what gains are relative to. A round starts anew, so all that is kept between rounds is x and g: checkpoints are
small, and no mask is learned of a single trajectory.

Source: bilevel problem as in Huang et al. 2024 (FreezeAsGuard, 2405.17472), eq. 1-3. Differs: equal start, normalised
scores, exact ratio (`rules`, `ratio`), bounded relative loss (`domains`), users by AdamW, LoRA or DreamBooth
(`relaxed`) who start anew; each user trains on one thing, as users do, where the published one trains on everything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from expunge.config import Settings, knob
from expunge.guard.domains import SIDES, PublisherImages, Subject, Upper
from expunge.guard.ratio import Groups
from expunge.guard.relaxed import Trial
from expunge.guard.rules import ProjectedRule
from expunge.guard.users import Users
from expunge.records.freezing import Granularity, Measure
from expunge.resume import Inputs
from expunge.train import Losses, Progress, Trained, run_loop

_SHARP = 2 / 3
"""Share of the steps of x after which the mask is as sharp as it gets."""


class MaskLearner(Settings):
    """What all learners share."""

    ratio: float = knob(0.5, "share of the UNet that is frozen", ge=0.0, le=1.0)
    by: Measure = knob("numel", "what the share is counted in: parameters (numel) or tensors (count)")
    granularity: Granularity = knob("tensor", "what is frozen together")


class UserRounds(MaskLearner):
    """What learners by rounds of simulated users share."""

    users: Users = knob(Users(), "who fine-tunes")
    shown: Literal["thing", "side", "both"] = knob("thing", "what a user trains on: one thing, all of one side, or all "
                                                   "of both sides together, as published")
    steps: int = knob(40, "steps of each simulated user", unit="steps", ge=1)
    upper: Literal["gain", "hinge"] = knob("gain", "the upper level's bounded loss")
    innocent: float = knob(1.0, "weight of the innocent side", ge=0.0)
    margin: float = knob(0.1, "hinge: a forbidden row counts until its loss is above the published one by this share",
                         ge=0.0)
    rows: int = knob(64, "images, noises and times on which each thing is measured", ge=1)
    batch: int = knob(4, "of them, in a mask step", ge=1)

    def turns(self, publisher: PublisherImages) -> list[Turn]:
        """Users in one pass, forbidden and innocent subjects in equal number."""
        counts = [len(publisher.of(side)) if self.shown == "thing" else 1 for side in SIDES]
        each: list[tuple[Subject, ...]] = [((side, k % counts[place]),) for k in range(max(counts))
                                           for place, side in enumerate(SIDES)]
        each = [tuple((side, 0) for side in SIDES)] if self.shown == "both" else each
        return [Turn(kind, turn) for kind in range(len(self.users.kinds)) for turn in each]


@dataclass(frozen=True)
class Turn:
    """A user in a pass: the place of its kind, and the subjects that it trains on."""

    kind: int
    subjects: tuple[Subject, ...]


class ProjectedMask(UserRounds):
    """Many users, mask steps in between."""

    kind: Literal["projected"] = "projected"
    passes: int = knob(3, "how often each kind of user meets each thing, beside the rehearsal", ge=1)
    interval: int = knob(2, "steps of a user per gradient by the mask", ge=1)
    settle: float = knob(0.5, "share of a user's steps before the first of them", ge=0.0, lt=1.0)
    temperature: float = knob(0.2, "of the relaxed mask", gt=0.0, source="FreezeAsGuard")
    sharpness: float = knob(2.0, "spread of the relaxed mask's ranks at the end; at 0 all stay half frozen", ge=0.0)

    def work(self, publisher: PublisherImages) -> tuple[int, int]:
        """Steps of users, and mask steps."""
        turns = self.turns(publisher)
        return (1 + self.passes) * len(turns) * self.steps, self.passes * self.marks() * sum(
            len(turn.subjects) for turn in turns)

    def marks(self) -> int:
        """Mask steps of a user."""
        return sum(self.marked(number) for number in range(self.steps))

    def marked(self, number: int) -> bool:
        """Whether a mask step comes after step `number` of a user."""
        return number + 1 > self.settle * self.steps and (number + 1) % self.interval == 0


Open = Callable[[int, Turn], AbstractContextManager[Trial]]
"""Lends the published model to user `number`."""


@dataclass(frozen=True)
class MaskScores:
    """What a learner found: scores float64 (groups,), larger ones frozen first; and how its rounds went."""

    scores: Tensor
    trained: Trained


def projected(settings: ProjectedMask, turns: Sequence[Turn], groups: Groups, opened: Open, upper: Upper, *,
              checkpoint: Path | None = None, under: Inputs | None = None, progress: Progress | None = None
              ) -> MaskScores:
    """Learn a mask by rounds; see the module.

    Raises:
        TrainingError: a user learns nothing where nothing is frozen. As `run_loop` for the checkpoint.
    """
    marks, pair = settings.marks(), 1 if len(turns[0].subjects) > 1 else len(SIDES)
    sharp = max(1, round(len(turns) * settings.passes / pair * _SHARP))
    rule = ProjectedRule.fresh(groups.weights(settings.by), settings.ratio, settings.temperature, settings.sharpness,
                               sharp, density=settings.by == "numel")
    unheld = torch.zeros(len(turns), len(SIDES), dtype=torch.float64)
    pending = torch.zeros(len(groups.labels), dtype=torch.float64)

    def one(number: int) -> Losses:
        place = number % len(turns)
        with opened(number, turns[place]) as trial:
            if number < len(turns):
                return rehearse(settings, trial, upper, turns[place], groups, unheld[place])
            scored = learn(trial, (number // len(turns) - 1) * marks, turns[place], unheld[place].tolist())
        if (place + 1) % pair == 0:
            rule.step(pending)
            pending.zero_()
        return scored

    def learn(trial: Trial, mark: int, turn: Turn, free: list[float]) -> Losses:
        trial.set(groups.spread(rule.m))
        for step in range(settings.steps):
            trial.step(step)
            if settings.marked(step):
                pending.add_(sum_of_gradients(trial, upper, turn, mark, free, groups))
                mark += 1
        return {f"gain {subject[0]}": upper.domains[subject].gain() / gain
                for subject, gain in zip(turn.subjects, free, strict=False)}

    trained = run_loop(one, len(turns) * (1 + settings.passes), {"x": rule.x, "done": rule.done,
                       "unheld": unheld, "pending": pending}, {}, checkpoint=checkpoint, under=under,
                       progress=progress)
    return MaskScores(rule.x, trained)


def sum_of_gradients(trial: Trial, upper: Upper, turn: Turn, number: int, free: Sequence[float], groups: Groups
                     ) -> Tensor:
    """d L_upper / d m, float64 (groups,), over the subjects of a turn; `free`: their users' gains without a mask."""
    return torch.stack([groups.summed(trial.gradient(upper.loss(subject, number, gain)))
                        for subject, gain in zip(turn.subjects, free, strict=False)]).sum(0)


def rehearse(settings: UserRounds, trial: Trial, upper: Upper, turn: Turn, groups: Groups, unheld: Tensor) -> Losses:
    """A user without a mask; its gain by each subject of the turn goes into `unheld`, float64 (sides,)."""
    trial.set(torch.zeros(len(groups.names), dtype=torch.float64))
    for number in range(settings.steps):
        trial.step(number)
    for place, subject in enumerate(turn.subjects):
        unheld[place] = upper.unheld(subject, settings.users.kinds[turn.kind], settings.steps)
    return {f"unheld {subject[0]}": float(unheld[place]) for place, subject in enumerate(turn.subjects)}
