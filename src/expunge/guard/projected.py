"""The default learner: simulated users, each from the published weights on, and a mask that is projected on its ratio.

    round r:   a user of some kind starts at theta_pre and trains on the users' half of one side (or of both)
               every `interval` steps after `settle` of them:  x <- projected step against d L_upper / d m

The first rounds are rehearsals without a mask: what users gain there is what gains are relative to. A round starts
anew, so all that is kept between rounds is x: checkpoints are small, and no mask is learned of a single trajectory.

Source: bilevel problem as in Huang et al. 2024 (FreezeAsGuard, 2405.17472), eq. 1-3. Differs: equal start, normalised
scores, exact ratio (`rules`, `ratio`), bounded relative loss (`domains`), users by AdamW, LoRA or DreamBooth
(`relaxed`) who start anew; each side's users train on that side alone (`apart`), as users do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from expunge.config import Settings, knob
from expunge.guard.domains import SIDES, Side, Upper
from expunge.guard.ratio import Groups
from expunge.guard.relaxed import Trial
from expunge.guard.rules import ProjectedRule
from expunge.guard.users import Users
from expunge.records.freezing import Granularity, Measure
from expunge.train import Losses, Progress, Trained, run_loop


class Learner(Settings):
    """What all learners share."""

    ratio: float = knob(0.5, "share of the UNet that is frozen", ge=0.0, le=1.0)
    by: Measure = knob("numel", "what the share is counted in: parameters (numel) or tensors (count)")
    granularity: Granularity = knob("tensor", "what is frozen together")


class Rounds(Learner):
    """What learners by rounds of simulated users share."""

    users: Users = knob(Users(), "who fine-tunes")
    apart: bool = knob(True, "a user trains on one side alone; else on both together, as published")
    steps: int = knob(40, "steps of each simulated user", unit="steps", ge=1)
    upper: Literal["gain", "hinge"] = knob("gain", "the upper level's bounded loss")
    innocent: float = knob(1.0, "weight of the innocent side", ge=0.0)
    margin: float = knob(0.1, "hinge: a forbidden row counts until its loss is above the published one by this share",
                         ge=0.0)
    rows: int = knob(64, "pictures, noises and times on which each side is measured", ge=1)
    batch: int = knob(4, "of them, in a mask step", ge=1)

    def turns(self) -> list[tuple[int, tuple[Side, ...]]]:
        """(place of the kind, sides that the user trains on), one per kind and side."""
        sides: list[tuple[Side, ...]] = [(side,) for side in SIDES] if self.apart else [SIDES]
        return [(place, told) for place in range(len(self.users.kinds)) for told in sides]


class Projected(Rounds):
    """Many users, mask steps in between."""

    kind: Literal["projected"] = "projected"
    rounds: int = knob(24, "simulated users, beside the rehearsals", ge=1)
    interval: int = knob(2, "steps of a user per mask step", ge=1)
    settle: float = knob(0.5, "share of a user's steps before the first mask step", ge=0.0, lt=1.0)
    temperature: float = knob(0.2, "of the relaxed mask", gt=0.0, source="FreezeAsGuard")
    rate: float = knob(0.05, "mask step, in units of the scores' running RMS", gt=0.0)

    def work(self) -> tuple[int, int]:
        """Steps of users, and mask steps."""
        rehearsals = len(self.turns())
        marks = sum(self.marked(number) for number in range(self.steps))
        each = 1 if self.apart else len(SIDES)
        return (rehearsals + self.rounds) * self.steps, self.rounds * marks * each

    def marked(self, number: int) -> bool:
        """Whether a mask step comes after step `number` of a user."""
        return number + 1 > self.settle * self.steps and (number + 1) % self.interval == 0


@dataclass(frozen=True)
class Round:
    """One simulated user: its number, the place of its kind, and the sides that it trains on."""

    number: int
    kind: int
    sides: tuple[Side, ...]


Open = Callable[[Round], AbstractContextManager[Trial]]
"""Lends the published model to a new user."""


@dataclass(frozen=True)
class Learned:
    """What a learner found: scores float64 (groups,), larger ones frozen first; and how its rounds went."""

    scores: Tensor
    trained: Trained


def projected(settings: Projected, groups: Groups, opened: Open, upper: Upper, *, checkpoint: Path | None = None,
              fingerprint: str = "", progress: Progress | None = None) -> Learned:
    """Learn a mask by rounds; see the module.

    Raises:
        TrainingError: a user learns nothing where nothing is frozen. As `run_loop` for the checkpoint.
    """
    turns = settings.turns()
    rule = ProjectedRule.fresh(groups.weights(settings.by), settings.ratio, settings.temperature, settings.rate,
                               density=settings.by == "numel")
    unheld = torch.zeros(len(settings.users.kinds), len(SIDES), dtype=torch.float64)
    steps = sum(settings.marked(number) for number in range(settings.steps))

    def one(number: int) -> Losses:
        kind, sides = turns[number % len(turns)]
        with opened(Round(number, kind, sides)) as trial:
            if number < len(turns):
                return rehearse(settings, trial, upper, kind, sides, groups, unheld)
            return learn(trial, number - len(turns), kind, sides)

    def learn(trial: Trial, number: int, kind: int, sides: tuple[Side, ...]) -> Losses:
        mark = number // len(turns) * steps
        trial.set(groups.spread(rule.m))
        for step in range(settings.steps):
            trial.step(step)
            if settings.marked(step):
                g = torch.zeros(len(groups.labels), dtype=torch.float64)
                for side in sides:
                    loss = upper.loss(side, mark, float(unheld[kind, SIDES.index(side)]))
                    g += groups.summed(trial.gradient(loss))
                mark += 1
                rule.step(g)
                trial.set(groups.spread(rule.m))
        return {f"gain {side}": upper.domains[side].gain() / float(unheld[kind, SIDES.index(side)]) for side in sides}

    trained = run_loop(one, len(turns) + settings.rounds, {"x": rule.x, "square": rule.square, "unheld": unheld}, {},
                       checkpoint=checkpoint, fingerprint=fingerprint, progress=progress)
    return Learned(rule.x, trained)


def rehearse(settings: Rounds, trial: Trial, upper: Upper, kind: int, sides: tuple[Side, ...], groups: Groups,
             unheld: Tensor) -> Losses:
    """A user without a mask; its gains go into `unheld`, float64 (kinds, sides)."""
    trial.set(torch.zeros(len(groups.names), dtype=torch.float64))
    for number in range(settings.steps):
        trial.step(number)
    for side in sides:
        unheld[kind, SIDES.index(side)] = upper.unheld(side, settings.users.kinds[kind], settings.steps)
    return {f"unheld {side}": float(unheld[kind, SIDES.index(side)]) for side in sides}


def thinned(losses: list[Losses], most: int = 50) -> dict[str, list[float]]:
    """By name, at most `most` values of each, evenly taken."""
    def values(name: str) -> Iterator[float]:
        return (each[name] for each in losses if name in each)

    out = {}
    for name in dict.fromkeys(name for each in losses for name in each):
        series = list(values(name))
        step = max(1, -(-len(series) // most))
        out[name] = series[::step]
    return out
