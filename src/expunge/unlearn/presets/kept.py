"""What our own `-fast` presets hold on to, at about what they cost without it.

Prompts in the wordings that methods may train on, plain and styled ones alike: each thing of the world once, things of
the concept's kind three times more, and six with two things in them. Four more prompts ask for the concept with another
thing beside it, so that the other one stays. The original's trajectories to them are short (8
points), because a keep needs many prompts more than it needs many times. Nothing published is changed by this.
"""

from __future__ import annotations

from expunge.unlearn.keep import MatchTeacher
from expunge.unlearn.retain import Retain
from expunge.unlearn.source import FrozenTrajectory

RETAIN_FAST = Retain(each=1, near=3, pairs=6, beside=4)
TRAJECTORIES_FAST = FrozenTrajectory(grid=8, guidance=2.0, trajectories=56, rounds=True)
KEEP_FAST = MatchTeacher(weight=1.0, batch=4, source=TRAJECTORIES_FAST)
