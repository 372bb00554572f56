"""TRCE: a closed form first, then the layers that see the image and no text: `trce`, and `trce-fast` for small models.

Source: Chen et al. 2025, TRCE, ICCV (arXiv 2503.07389), read in its code (ddgoodgood/TRCE@0da9b71): trajectories to
the concept at guidance 3, the first 26 points of 50; AdamW 1e-6 with a decay of 1e-2, 3 epochs of 100 trajectories, the
keep times 100. Differs: gradients are not added up over steps (the published loop never sets them to zero); x_t has the
time that it is said to have (published: one step of 20 too noisy in name); 64 trajectories are kept and drawn from;
prompts are kept beside the empty one, as the original has them (published: 2,000 unconditional trajectories, more than
all else costs, as the first stage has them); the start
maps the whole span of the concept's name, as `uce` does, and its keys and values train on (published: the first end
token alone, which then stays); "Differs" of objective `contrast`, whose division by 2 (1 + w) makes a keep of 100 one
of 3.
"""

from __future__ import annotations

from expunge.unlearn.contrast import Contrast
from expunge.unlearn.keep import MatchTeacher
from expunge.unlearn.presets.closed_form import UCE
from expunge.unlearn.presets.kept import KEEP_FAST, RETAIN_FAST
from expunge.unlearn.recipe import Recipe
from expunge.unlearn.retain import Retain
from expunge.unlearn.source import FrozenTrajectory
from expunge.unlearn.update import Plain

TRCE = Recipe(name="trce", start=UCE, source=FrozenTrajectory(grid=50, guidance=3.0, trajectories=64, part=0.52),
              objective=Contrast(), scope="visual+xattn.kv",
              keep=MatchTeacher(weight=3.0, batch=4, source=FrozenTrajectory(grid=50, guidance=3.0, trajectories=100)),
              retain=Retain(each=1), surrogate="found", steps=300, batch=1, learning_rate=1e-6, weight_decay=1e-2)
TRCE_FAST = Recipe(name="trce-fast", start=UCE,
                   source=FrozenTrajectory(grid=20, guidance=2.0, trajectories=16, part=0.52),
                   objective=Contrast(), scope="visual+xattn.kv",
                   keep=KEEP_FAST.model_copy(update={"weight": 3.0}), retain=RETAIN_FAST,
                   surrogate="found", steps=100, batch=6, learning_rate=1e-4, warmup=10,
                   update=Plain(max_grad_norm=1.0))
