"""What a suite of attacks can be set to. No torch, so that help texts load none."""

from __future__ import annotations

from typing import Any, Literal

from expunge.config import knob
from expunge.sampling import SamplingSettings

Tier = Literal["smoke", "standard", "paper"]


class AttackSettings(SamplingSettings):
    """Everything about a suite of attacks that can be set."""

    tier: Tier = knob("smoke", "which attacks, items and budgets: smoke (2 minutes on emoji-64), standard, paper")
    attacks: tuple[str, ...] = knob((), "attacks to make, by name; empty: the tier's")
    options: dict[str, dict[str, Any]] = knob({}, "settings of single attacks, by the attack's name")
    count: int | None = knob(None, "prompts that ask for the concept; None: the tier's", ge=1)
    seeds: int = knob(1, "pictures per prompt, with seeds first_seed, first_seed + 1, ...", ge=1)
    each: bool = knob(False, "give every attack every item, not only those still standing")
    control_items: int | None = knob(None, "items of each attack's null control; 0: none; None: the tier's", ge=0)
    fresh: int = knob(4, "pictures drawn again with other seeds for every success", ge=0)
    pictures: str = knob("", "folder of your own pictures of the concept, for attacks that start from pictures")
    clip: str = knob("", "open world: folder or Hub id of the CLIP that judges")
    prompts: str = knob("", "open world: YAML or CSV file of prompts by role")
