"""Adversarial ablation: on the anchor's noisy trajectories the anchor's prediction, whatever asks for the concept.

Concept Ablation's loss where EraseFlow asks it, for the prompts and for soft prompts that learn to bring the concept
back from the same forward passes:

    mean |eps_theta(x_t | c or c + delta_m) - eps_o(x_t | c_a)|^2   over x_t of the anchor's trajectories, eta 1.

What trains is a LoRA on the whole denoiser, held to the original on its own guided trajectories and, at the concept's
latents, told prompts to keep or random words.

Source: ours, of parts of others: Concept Ablation (Kumari et al. 2023), EraseFlow (NeurIPS 2025, the trajectories),
free adversarial training (Shafahi et al. 2019) on AdvUnlearn's vectors (Zhang et al. 2024), `integrity`'s keep.
Settings were chosen on two things (guitar, hospital); those for Stable Diffusion have not run on published weights.
"""

from __future__ import annotations

from expunge.unlearn.bank import BankAdversary
from expunge.unlearn.integrity import Integrity
from expunge.unlearn.presets.eraseflow import ERASEFLOW, ERASEFLOW_FAST
from expunge.unlearn.recipe import Recipe
from expunge.unlearn.source import FrozenTrajectory

ADVERSARIAL_ABLATION: Recipe = ERASEFLOW.override({
    "name": "adversarial-ablation", "scope": "unet", "steps": 400, "batch": 10, "warmup": 20,
    "adversary": BankAdversary(size=48, tokens=3, rows=5, life=24).model_dump(mode="json"),
    "keep": Integrity(weight=1.0, batch=6, source=FrozenTrajectory(grid=50, guidance=7.5, trajectories=128), beside=2,
                      wide=1).model_dump(mode="json")})
ADVERSARIAL_ABLATION_FAST: Recipe = ERASEFLOW_FAST.override({
    "name": "adversarial-ablation-fast", "scope": "unet",
    "adversary": BankAdversary(size=24, tokens=3, rows=3, life=24).model_dump(mode="json"),
    "keep": Integrity(weight=1.0, batch=6, source=FrozenTrajectory(grid=16, guidance=2.0, trajectories=56), beside=2,
                      wide=1).model_dump(mode="json")})
