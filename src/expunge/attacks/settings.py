"""What a suite of attacks and relearning curves can be set to. No torch, so that help texts load none."""

from __future__ import annotations

from typing import Any, Literal

from expunge.config import knob
from expunge.detectors.settings import AskSettings
from expunge.sampling import SamplingSettings

Tier = Literal["smoke", "standard", "paper"]


class AttackSettings(AskSettings, SamplingSettings):
    """Everything about a suite of attacks that can be set."""

    tier: Tier = knob("smoke", "which attacks, items and budgets: smoke (2 minutes on emoji-64), standard, paper")
    attacks: tuple[str, ...] = knob((), "attacks to make, by name; empty: the tier's")
    options: dict[str, dict[str, Any]] = knob({}, "settings of single attacks, by the attack's name")
    count: int | None = knob(None, "prompts that ask for the concept, the first of your own file; None: all of those, "
                                    "or without any the tier's number", ge=1)
    seeds: int = knob(1, "images per prompt, with seeds first_seed, first_seed + 1, ...", ge=1)
    each: bool = knob(False, "give every attack every item, not only those still standing")
    force: bool = knob(False, "attack also the items that the model shows without an attack: whether attacks work "
                              "at all is seen on the unedited model")
    control_items: int | None = knob(None, "items of each attack's null control; 0: none; None: the tier's", ge=0)
    fresh: int = knob(4, "images drawn again with other seeds for every success", ge=0)
    pictures: str = knob("", "folder of your own images of the concept, for attacks that start from images")


class RelearnSettings(AskSettings, SamplingSettings):
    """Everything about relearning curves that can be set."""

    training: Literal["relearn", "relearn-xattn", "relearn-lora"] = knob(
        "relearn", "what the fine-tuning trains: all of the UNet, its cross-attention, or a LoRA")
    at: tuple[int, ...] = knob((0, 5, 10, 20, 40, 80, 160, 320), "numbers of training steps at which a model is looked "
                               "at; the last one ends the training")
    lesson: int = knob(16, "images to train on, where the original model draws them", ge=1)
    tune: dict[str, Any] = knob({}, "settings of the training, such as rate and batch (see `expunge.finetune`)")
    count: int | None = knob(None, "prompts that ask for a thing at every look; None: all of your own, or 16", ge=1)
    seeds: int = knob(1, "images per prompt, with seeds first_seed, first_seed + 1, ...", ge=1)
    enough: float = knob(0.5, "found rate from which a thing counts as drawn", gt=0.0, le=1.0)
    pictures: str = knob("", "folder of your own images of the concept to train on, instead of the original model's")
