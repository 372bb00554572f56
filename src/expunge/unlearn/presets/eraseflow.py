"""EraseFlow: along the anchor's stochastic trajectories, predict for the concept what is predicted for the anchor.

Its loss is a balance over a whole trajectory x_T .. x_0 of the anchor, drawn by DDPM's sampler,

    (sum_j [log p_theta(x_(j-1) | x_j, c) - log q(x_(j-1) | x_j)] + Z - beta)^2.

For q against itself the normalisers add up to about the published beta, so that the bracket vanishes where c follows
the anchor; that is Concept Ablation on these trajectories with the square of a sum in the place of a sum of squares.
Here it is the sum of squares, whose errors cannot cancel, and whose graph holds one pass of the network in place of
twenty.

Source: EraseFlow, NeurIPS 2025, read in its code (Abhiramkns/EraseFlow@31c98ec): trajectories of 50 steps at guidance 5
with eta 1, one for each of 20 epochs, 20 of their points in each (10 of the first 40 and all of the last 10), a LoRA of
rank 4 at 3e-4, gradients clipped at 1. Differs: the sum of squares; points are drawn from all 50 alike; prompts to keep
(published: none); the LoRA lies on cross-attention.
"""

from __future__ import annotations

from expunge.unlearn.ablation import Ablate
from expunge.unlearn.keep import MatchTeacher
from expunge.unlearn.presets.kept import KEEP_FAST, RETAIN_FAST
from expunge.unlearn.recipe import Recipe
from expunge.unlearn.retain import Retain
from expunge.unlearn.source import FrozenTrajectory
from expunge.unlearn.update import Plain

ERASEFLOW = Recipe(name="eraseflow",
                   source=FrozenTrajectory(grid=50, guidance=5.0, trajectories=20, of="anchor", eta=1.0),
                   objective=Ablate(), scope="xattn",
                   keep=MatchTeacher(batch=10, source=FrozenTrajectory(grid=50, guidance=5.0, trajectories=60)),
                   retain=Retain(each=1), surrogate="found", steps=20, batch=20, learning_rate=3e-4, lora_rank=4,
                   lora_rate=1.0, update=Plain(max_grad_norm=1.0))
ERASEFLOW_FAST = Recipe(name="eraseflow-fast",
                        source=FrozenTrajectory(grid=20, guidance=2.0, trajectories=20, of="anchor", eta=1.0),
                        objective=Ablate(), scope="xattn", keep=KEEP_FAST, retain=RETAIN_FAST, surrogate="found",
                        steps=100, batch=6, learning_rate=2e-3, warmup=10, lora_rank=4, lora_rate=1.0,
                        update=Plain(max_grad_norm=1.0))
