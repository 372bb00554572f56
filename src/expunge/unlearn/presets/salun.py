"""SalUn, saliency unlearning: `salun` with the published numbers, `salun-fast` for small models and CPUs.

Wrong labels for the concept's images, the denoising loss on others, and a mask that lets only the most salient half
of the UNet's weights change. Without the mask, as published clones of the code ran until May 2024: {"update": "plain"}.

Source: Fan et al. 2024, SalUn: Empowering Machine Unlearning via Gradient-based Weight Saliency, ICLR;
generate_mask.py, random_label.py@a6e89fd, the settings for classes: 800 images in batches of 8, 5 epochs, Adam 1e-5,
alpha 0.5. Nudity: {"steps": 100, "keep.weight": 0.1}, anchor "a person wearing clothes". Differs: the frozen teacher's
images, not Imagenette's; the rest of the world as `retain` lists it, not the nine other classes.
"""

from __future__ import annotations

from expunge.unlearn.denoise import Denoise
from expunge.unlearn.noised import NoisedPictures
from expunge.unlearn.presets.kept import RETAIN_FAST
from expunge.unlearn.recipe import Recipe
from expunge.unlearn.relabel import Relabel
from expunge.unlearn.retain import Retain
from expunge.unlearn.saliency import Masked
from expunge.unlearn.update import Plain

PICTURES = NoisedPictures(pictures=800, grid=50, guidance=7.5)
SALUN = Recipe(name="salun", source=PICTURES, objective=Relabel(), scope="unet",
               keep=Denoise(weight=0.5, batch=8, source=PICTURES), retain=Retain(each=1),
               update=Masked(share=0.5, draws=100), steps=500, batch=8, learning_rate=1e-5)
SALUN_FAST = Recipe(name="salun-fast", source=NoisedPictures(pictures=32), objective=Relabel(guidance=2.0),
                    scope="unet", keep=Denoise(weight=0.5, batch=8, source=NoisedPictures(pictures=56, grid=16)),
                    retain=RETAIN_FAST, surrogate="found", steps=70, batch=8,
                    update=Masked(share=0.5, draws=12, update=Plain(max_grad_norm=1.0)), learning_rate=1e-4, warmup=10)
