"""ResAlign: an erasure that some fine-tuning should not undo: `resalign`, and `resalign-fast` for small models.

It is an update, `lookahead`, and goes with every erase loss ({"update": "lookahead"}); here with ESD's.

Source: Li et al. 2025, ResAlign, NeurIPS, read in its code (AntigoneRandy/ResAlign@14775d3): a LoRA of rank 4 at 2e-4,
160 steps, lambda 0.8, the keep times 1.6 to 2, gradients clipped at 0.2, relearning drawn from 15 configurations.
Differs: "Differs" of update `lookahead`; one configuration in each step (published: three), of eight made of two rates
and four lengths; relearning moves the LoRA that erases, not one beside it.
"""

from __future__ import annotations

from expunge.unlearn.keep import MatchTeacher
from expunge.unlearn.lookahead import Lookahead
from expunge.unlearn.noised import NoisedPictures
from expunge.unlearn.objective import Steer
from expunge.unlearn.presets.kept import KEEP_FAST, RETAIN_FAST
from expunge.unlearn.recipe import Recipe
from expunge.unlearn.retain import Retain
from expunge.unlearn.source import FrozenTrajectory
from expunge.unlearn.update import Plain

RESALIGN = Recipe(name="resalign", source=FrozenTrajectory(grid=50, guidance=3.0), scope="unet",
                  keep=MatchTeacher(weight=2.0, batch=1, source=FrozenTrajectory(grid=50, guidance=3.0,
                                                                                trajectories=60)),
                  retain=Retain(each=1), steps=160, batch=1, learning_rate=2e-4, lora_rank=4, lora_rate=1.0,
                  update=Lookahead(source=NoisedPictures(pictures=16, grid=50, guidance=7.5),
                                   update=Plain(max_grad_norm=0.2)))
RESALIGN_FAST = Recipe(name="resalign-fast", source=FrozenTrajectory(grid=12, guidance=2.0, trajectories=28),
                       objective=Steer(away="anchor"), scope="xattn", keep=KEEP_FAST, retain=RETAIN_FAST,
                       surrogate="found", steps=100, batch=6, learning_rate=1.5e-4, warmup=10,
                       update=Lookahead(rates=(1e-4, 3e-4), lengths=(2, 4), batch=4,
                                        source=NoisedPictures(pictures=8), update=Plain(max_grad_norm=1.0)))
