"""STEREO: find words that bring the concept back, then erase all of them at once: `stereo` and `stereo-fast`.

Source: Srivatsan et al. 2025, STEREO, CVPR (arXiv 2408.16807), read in its code
(koushiksrivats/robust-concept-erasing@86f124f): two rounds (its README; four by default) of 200 steps of erasing at
5e-6 and 3,000 of textual inversion at 5e-3, then 200 steps at 2e-5 on cross-attention. Differs: "Differs" of
adversary `words` (800 steps of four images) and objective `compose`; x_t comes from a pool of the original's
trajectories in the place of a new one of the edited model in every step, which is most of what the published script
computes.
"""

from __future__ import annotations

from expunge.unlearn.compose import Compose
from expunge.unlearn.found_words import FoundWords
from expunge.unlearn.noised import NoisedPictures
from expunge.unlearn.presets.kept import KEEP_FAST, RETAIN_FAST
from expunge.unlearn.recipe import Recipe
from expunge.unlearn.source import FrozenTrajectory
from expunge.unlearn.update import Plain

STEREO = Recipe(name="stereo", source=FrozenTrajectory(grid=50, guidance=3.0), objective=Compose(), scope="xattn",
                adversary=FoundWords(), surrogate="found", steps=200, batch=1, learning_rate=2e-5)
STEREO_FAST = Recipe(name="stereo-fast", source=FrozenTrajectory(grid=12, guidance=2.0, trajectories=28),
                     objective=Compose(), scope="xattn",
                     adversary=FoundWords(erase_steps=40, erase_rate=1.5e-4, search_steps=80, search_rate=1e-2, rows=4,
                                          source=NoisedPictures(pictures=8)),
                     keep=KEEP_FAST, retain=RETAIN_FAST, surrogate="found", steps=100, batch=6, learning_rate=1.5e-4,
                     warmup=10, update=Plain(max_grad_norm=1.0))
