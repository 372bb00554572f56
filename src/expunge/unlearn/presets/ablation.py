"""Concept Ablation: `ablation` with the published numbers, `ablation-fast` for small models and CPUs.

Source: Kumari et al. 2023, Ablating Concepts in Text-to-Image Diffusion Models, ICCV; concept-ablation diffusers form
(c11fb1b): keys and values of cross-attention, 2e-6 per image in the batch (2 GPUs of 4: 1.6e-5), 100 steps, 1000
images of the anchor, weight decay 1e-2; `keep` "denoise" on the anchor's images where the concept's name holds the
anchor's ("grumpy cat"). Nudity: {"learning_rate": 3.2e-5, "steps": 400, "scope": "xattn", "keep": "denoise",
"keep.on": "anchor"}. Differs: "Differs" of source `noised` and objective `ablate`; keys and values of the first token
train too, for a text encoder's states are all that a recipe sees of attention.
"""

from __future__ import annotations

from expunge.unlearn.ablation import Ablate
from expunge.unlearn.noised import NoisedPictures
from expunge.unlearn.presets.kept import KEEP_FAST, RETAIN_FAST
from expunge.unlearn.recipe import Recipe
from expunge.unlearn.update import Plain

PICTURES = NoisedPictures(of="anchor", pictures=1000, grid=25, guidance=6.0)
"""The published images of the anchor."""

ABLATION = Recipe(name="ablation", source=PICTURES, objective=Ablate(anchor_model="student"), scope="xattn.kv",
                  steps=100, batch=8, learning_rate=1.6e-5, weight_decay=1e-2)
ABLATION_FAST = Recipe(name="ablation-fast", source=NoisedPictures(of="anchor", pictures=24), objective=Ablate(),
                       scope="xattn", keep=KEEP_FAST, retain=RETAIN_FAST, surrogate="found", steps=100, batch=6,
                       learning_rate=2e-4, warmup=10, update=Plain(max_grad_norm=1.0))
