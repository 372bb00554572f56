"""Concept Ablation with another divergence: `hellinger` spares the rest, `chi2` erases harder; `-fast` forms of both.

The loss is a drop-in for the squared error of every regression objective: {"objective.loss": "chi2"}.

Source: f-DMU (2025, arXiv 2509.21167), closed forms: keys and values of cross-attention, 7e-5, 500 steps of 2 images
accumulated twice, images as Concept Ablation's. Differs: "Differs" of source `noised` and of divergence.py; sigma 1.
"""

from __future__ import annotations

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
