"""Counterfactual self-distillation: of everything the student may be told, the concept's share of the answer goes.

A closed form takes the concept's names away first. Then the whole denoiser learns, at latents on the way to the concept
and to its anchor, to leave no more than a level of the concept's own direction in its predictions: told the prompt,
soft prompts of a bank that look for what is left, and the empty prompt. What is orthogonal to that direction is
nobody's loss but the keep's, which follows the original's own trajectories, and holds what other prompts bring at the
same latents.

Source: ours. The direction is that of a guided sampler (Dynamic Velocity Erasing, arXiv 2602.01089), the start TRCE's
(arXiv 2503.07389), the adversary free adversarial training's (arXiv 1904.12843) on AdvUnlearn's vectors
(arXiv 2405.15234), the keep `integrity`'s.
"""

from __future__ import annotations

from expunge.unlearn.bank import BankAdversary
from expunge.unlearn.halfspace import HalfSpace
from expunge.unlearn.integrity import Integrity
from expunge.unlearn.noised import NoisedPictures
from expunge.unlearn.presets.closed_form import UCE
from expunge.unlearn.presets.kept import RETAIN_FAST
from expunge.unlearn.recipe import Recipe
from expunge.unlearn.retain import Retain
from expunge.unlearn.source import FrozenTrajectory
from expunge.unlearn.union import Union
from expunge.unlearn.update import Plain

COUNTERFACTUAL = Recipe(
    name="counterfactual", start=UCE,
    source=Union(sources=(FrozenTrajectory(grid=50, guidance=7.5, trajectories=32),
                          FrozenTrajectory(grid=50, guidance=7.5, trajectories=16, of="anchor"),
                          NoisedPictures(pictures=16, grid=50, guidance=7.5, points=20)), shares=(2.0, 1.0, 1.0)),
    objective=HalfSpace(level=0.25, empty=1.0, empty_rows=4), scope="unet",
    adversary=BankAdversary(size=48, tokens=3, rows=6, life=24),
    keep=Integrity(weight=4.0, batch=6, source=FrozenTrajectory(grid=50, guidance=7.5, trajectories=128), beside=2,
                   wide=1),
    retain=Retain(each=1), surrogate="found", steps=400, batch=10, learning_rate=1e-5, warmup=20, decay="cosine",
    update=Plain(max_grad_norm=1.0))
COUNTERFACTUAL_FAST = COUNTERFACTUAL.override({
    "name": "counterfactual-fast", "source.sources": [
        {"kind": "frozen", "grid": 20, "guidance": 2.0, "trajectories": 16},
        {"kind": "frozen", "grid": 20, "guidance": 2.0, "trajectories": 8, "of": "anchor"},
        {"kind": "noised", "pictures": 8, "grid": 20, "guidance": 2.0, "points": 20}],
    "objective.empty": 0.5, "adversary.size": 24,
    "keep.source": {"kind": "frozen", "grid": 16, "guidance": 2.0, "trajectories": 56},
    "retain": RETAIN_FAST.model_dump(mode="json"), "steps": 100, "learning_rate": 1e-4, "warmup": 10})
