"""Concept Ablation with another divergence: `hellinger` spares the rest, `chi2` erases harder; `-fast` forms of both.

The loss is a drop-in for the squared error of every regression objective: {"objective.loss": "chi2"}.

Source: f-DMU (2025, arXiv 2509.21167), closed forms: keys and values of cross-attention, 7e-5, 500 steps of 2 pictures
accumulated twice, pictures as Concept Ablation's. Differs: "Differs" of source `noised` and of divergence.py; sigma 1.
"""

from __future__ import annotations

from typing import Any

from expunge.unlearn.ablation import Ablate
from expunge.unlearn.divergence import ChiSquare, Hellinger
from expunge.unlearn.presets.ablation import ABLATION_FAST, PICTURES
from expunge.unlearn.recipe import Recipe

HELLINGER = Recipe(name="hellinger", source=PICTURES, objective=Ablate(anchor_model="frozen", loss=Hellinger()),
                   scope="xattn.kv", steps=500, batch=4, learning_rate=7e-5)
CHI2 = HELLINGER.model_copy(update={"name": "chi2", "objective": Ablate(anchor_model="frozen", loss=ChiSquare())})
HELLINGER_FAST = ABLATION_FAST.model_copy(update={
    "name": "hellinger-fast", "steps": 100, "objective": Ablate(loss=Hellinger(sigma=0.25))})
CHI2_FAST = ABLATION_FAST.model_copy(update={
    "name": "chi2-fast", "steps": 100, "objective": Ablate(loss=ChiSquare(sigma=0.5))})


def hellinger(**overrides: Any) -> Recipe:
    """Concept Ablation with the Hellinger distance; overrides by (dotted) setting name: `hellinger(scope="xattn")`.

    Raises:
        ConfigError: every mistake at once.
    """
    return HELLINGER.override(overrides)


def chi2(**overrides: Any) -> Recipe:
    """Concept Ablation with the chi-square divergence; overrides as in `hellinger`.

    Raises:
        ConfigError: every mistake at once.
    """
    return CHI2.override(overrides)


def hellinger_fast(**overrides: Any) -> Recipe:
    """`hellinger` for a small model on a CPU; overrides as there.

    Raises:
        ConfigError: every mistake at once.
    """
    return HELLINGER_FAST.override(overrides)


def chi2_fast(**overrides: Any) -> Recipe:
    """`chi2` for a small model on a CPU; overrides as in `hellinger`.

    Raises:
        ConfigError: every mistake at once.
    """
    return CHI2_FAST.override(overrides)
