"""Continual learning for any torch module: one objective whose methods are settings, and refresh learning.

It knows no diffusion model; `unlearn` takes its refresh from here.
"""

from __future__ import annotations

from expunge.continual.bregman import (
    Gaussians,
    NegativeEntropy,
    Quadratic,
    RootDivergence,
    SquaredDivergence,
    by_definition,
)
from expunge.continual.fisher import Fisher, FisherSettings, hutchinson, of_module
from expunge.continual.learner import LearnedSequence, Learner, Task, accuracy, learn
from expunge.continual.memory import Reservoir
from expunge.continual.objective import Moment, Objective, OutputTerm, Samples, Value, WeightTerm
from expunge.continual.presets import CPR, OBJECTIVES, PAPER, REFRESHES, RELEASED, SAFE
from expunge.continual.refresh import Ascent, Refresh, Refresher
from expunge.continual.scores import AccuracyMatrix
from expunge.continual.variational import MeanField

__all__ = [
    "CPR",
    "OBJECTIVES",
    "PAPER",
    "REFRESHES",
    "RELEASED",
    "SAFE",
    "AccuracyMatrix",
    "Ascent",
    "Fisher",
    "FisherSettings",
    "Gaussians",
    "LearnedSequence",
    "Learner",
    "MeanField",
    "Moment",
    "NegativeEntropy",
    "Objective",
    "OutputTerm",
    "Quadratic",
    "Refresh",
    "Refresher",
    "Reservoir",
    "RootDivergence",
    "Samples",
    "SquaredDivergence",
    "Task",
    "Value",
    "WeightTerm",
    "accuracy",
    "by_definition",
    "hutchinson",
    "learn",
    "of_module",
]
