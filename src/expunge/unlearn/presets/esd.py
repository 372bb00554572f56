"""ESD, Erased Stable Diffusion: `esd` with the published numbers, `esd-fast` for small models and CPUs.

The published variants differ in scope only: ESD-x is "xattn" (styles, things named in the prompt), ESD-u is
"noxattn" (everything except cross-attention; erasure that must not hang on words), "unet" is all of it,
"text" the text encoder.

Source: Gandikota et al. 2023, Erasing Concepts from Diffusion Models, ICCV; CompVis script
train-esd.py@a2189e9: eta 1, guidance 3, DDIM 50, Adam 1e-5, 1000 steps of batch 1. Differs: x_t of the frozen
model from a pool, as in source.py ("source": "edited" gives the CompVis form; {"source.fresh": true} the form
of esd_sd.py@25613d2). `esd-fast` differs further: it steers from and away from the prompt with a surrogate in the
concept's place, and holds on to other things.
"""

from __future__ import annotations

from expunge.unlearn.objective import Steer
from expunge.unlearn.presets.kept import KEEP_FAST, RETAIN_FAST
from expunge.unlearn.recipe import Recipe
from expunge.unlearn.source import FrozenTrajectory
from expunge.unlearn.update import Plain

ESD = Recipe(name="esd", source=FrozenTrajectory(grid=50, guidance=3.0), scope="xattn", steps=1000, batch=1,
             learning_rate=1e-5)
ESD_FAST = Recipe(name="esd-fast", source=FrozenTrajectory(grid=12, guidance=2.0, trajectories=28),
                  objective=Steer(away="anchor"), scope="xattn", keep=KEEP_FAST, retain=RETAIN_FAST,
                  surrogate="found", steps=100, batch=6, learning_rate=1.5e-4, warmup=10,
                  update=Plain(max_grad_norm=1.0))
