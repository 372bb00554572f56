"""Adversarial ablation: on the anchor's noisy trajectories the anchor's prediction, whatever asks for the concept.

Concept Ablation's loss where EraseFlow asks it, for the prompts and for soft prompts that learn to bring the concept
back from the same forward passes:

    mean |eps_theta(x_t | c or c + delta_m) - eps_o(x_t | c_a)|^2   over x_t of the anchor's trajectories, eta 1.

A student that follows the anchor wherever the anchor's noisy sampler leads has an answer to give to a soft prompt that
it has not met; one that is only led away from the concept has none. What trains is a LoRA on the whole denoiser.

Source: ours, of parts of three: Concept Ablation (Kumari et al. 2023), EraseFlow (NeurIPS 2025, the trajectories), free
adversarial training (Shafahi et al. 2019) on AdvUnlearn's vectors (Zhang et al. 2024). Settings were chosen on one
concept (guitar); those for Stable Diffusion are EraseFlow's and the bank's, and have not run on published weights.
"""

from __future__ import annotations

from expunge.unlearn.bank import BankAdversary
from expunge.unlearn.presets.eraseflow import ERASEFLOW, ERASEFLOW_FAST
from expunge.unlearn.recipe import Recipe

ADVERSARIAL_ABLATION: Recipe = ERASEFLOW.override({
    "name": "adversarial-ablation", "scope": "unet", "steps": 400, "batch": 10, "warmup": 20,
    "adversary": BankAdversary(size=48, tokens=3, rows=5, life=24).model_dump(mode="json")})
ADVERSARIAL_ABLATION_FAST: Recipe = ERASEFLOW_FAST.override({
    "name": "adversarial-ablation-fast", "scope": "unet",
    "adversary": BankAdversary(size=24, tokens=3, rows=3, life=24).model_dump(mode="json")})
