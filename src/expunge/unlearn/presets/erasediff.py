"""EraseDiff: `erasediff` with the published numbers, `erasediff-fast` for small models and CPUs.

The concept's prompts are trained towards noise, the rest by the denoising loss, and the two are joined by the bilevel
problem's first-order step. The code's later form trains towards what the model itself draws for another prompt:
{"objective": "relabel"}, with that prompt as the anchor.

Source: Wu et al. 2024, EraseDiff: Erasing Data Influence in Diffusion Models (arXiv 2401.05779);
erasediff_nsfw.py@5250096: everything outside cross-attention, Adam 1e-5, batch 8, lambda 1 (the scripts; 0.1 by
default), 800 images each, "160 steps are enough". Differs: the teacher's images; no inner steps, which decide
nothing (bilevel.py); the time embedding and the last convolution train too.
"""

from __future__ import annotations

from expunge.unlearn.bilevel import Bilevel
from expunge.unlearn.denoise import Denoise
from expunge.unlearn.noised import NoisedPictures
from expunge.unlearn.presets.kept import RETAIN_FAST
from expunge.unlearn.recipe import Recipe
from expunge.unlearn.relabel import Noise
from expunge.unlearn.retain import Retain

PICTURES = NoisedPictures(pictures=800, grid=50, guidance=7.5)
ERASEDIFF = Recipe(name="erasediff", source=PICTURES, objective=Noise(noise="uniform"), scope="noxattn",
                   keep=Denoise(weight=1.0, batch=8, source=PICTURES), retain=Retain(each=1),
                   update=Bilevel(rule="constant", weight=1.0), steps=160, batch=8, learning_rate=1e-5)
ERASEDIFF_FAST = Recipe(name="erasediff-fast", source=NoisedPictures(pictures=24), objective=Noise(noise="uniform"),
                        scope="unet", keep=Denoise(weight=1.0, batch=8, source=NoisedPictures(pictures=56, grid=12)),
                        retain=RETAIN_FAST, update=Bilevel(rule="constant", weight=0.3, max_grad_norm=1.0), steps=60,
                        batch=8, learning_rate=1e-4, warmup=10)
