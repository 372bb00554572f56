"""Integrity-preserving erasure: three ways of holding on to the original's images, each with a `-fast` form.

`integrity` adds to ESD the keep that follows the original along its own trajectories; `integrity-overwrite` overwrites
the concept with its anchor and keeps in the same way; `integrity-dual` bounds what the kept images may suffer and
finds the weight of the keep by dual ascent. The keep goes with any objective ({"keep": "integrity"}), the bound with
any keep ({"update": "dual"}), and either with gradient surgery ({"update": "surgery"}, {"update.update": "surgery"}).

Source: the aim is that of Schioppa, Hoogeboom and Heek 2024, Model Integrity when Unlearning with T2I Diffusion Models
(arXiv 2411.02068). Differs: losses, names and numbers are ours, for the paper's code is not public; the numbers that
are not about keeping are ESD's and Concept Ablation's.
"""

from __future__ import annotations

from expunge.unlearn.ablation import Ablate
from expunge.unlearn.dual import Dual
from expunge.unlearn.integrity import Integrity
from expunge.unlearn.objective import Steer
from expunge.unlearn.presets.kept import RETAIN_FAST
from expunge.unlearn.recipe import Recipe
from expunge.unlearn.retain import Retain
from expunge.unlearn.source import FrozenTrajectory
from expunge.unlearn.update import Plain

KEEP = Integrity(batch=4, source=FrozenTrajectory(grid=50, guidance=7.5, trajectories=128))
INTEGRITY = Recipe(name="integrity", source=FrozenTrajectory(grid=50, guidance=3.0), objective=Steer(eta=1.0),
                   scope="xattn", keep=KEEP, retain=Retain(each=1), steps=1000, batch=1, learning_rate=1e-5)
OVERWRITE = INTEGRITY.model_copy(update={"name": "integrity-overwrite", "objective": Ablate()})
DUAL = INTEGRITY.model_copy(update={"name": "integrity-dual", "update": Dual(bound=0.01, start=0.0)})

KEEP_FAST = Integrity(batch=4, source=FrozenTrajectory(grid=16, guidance=2.0, trajectories=56))
FAST = Recipe(name="integrity-fast", source=FrozenTrajectory(grid=20, guidance=2.0), objective=Steer(away="anchor"),
              scope="xattn", keep=KEEP_FAST, retain=RETAIN_FAST, surrogate="found", steps=120, batch=8,
              learning_rate=1e-4, warmup=10, update=Plain(max_grad_norm=1.0))
OVERWRITE_FAST = FAST.model_copy(update={"name": "integrity-overwrite-fast", "objective": Ablate(),
                                         "learning_rate": 2e-4})
DUAL_FAST = FAST.model_copy(update={"name": "integrity-dual-fast",
                                    "update": Dual(bound=0.006, start=0.0, multiplier_rate=20.0,
                                                    update=Plain(max_grad_norm=1.0))})
