"""What a training service needs to know of a mask: names to freeze and to train, layers for a LoRA, what it saves.

Names are those of `unet.named_parameters()` and `unet.named_modules()` in diffusers, so that a service which knows
nothing of expunge can use them. A LoRA's configuration is judged as peft would read it.

Source: ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from expunge.errors import UserError
from expunge.guard.enforce import frozen_modules, lora_targets
from expunge.guard.mask import check_mask
from expunge.guard.savings import savings
from expunge.models.lora import Lora
from expunge.models.sd import StableDiffusion
from expunge.records.freezing import FreezeMask, TrainingTerms


def terms(model: StableDiffusion, mask: FreezeMask, targets: Sequence[str] | str = Lora().targets) -> TrainingTerms:
    """The terms on which others may fine-tune the model.

    Args:
        targets: which layers a LoRA would be put on: ends of their names, or a regular expression (a text, as in
            peft's `target_modules`). Those that are frozen are left out of the terms.

    Raises:
        ModelError: a mask for another model.
    """
    check_mask(mask, model)
    layers, held = _layers(model.unet, targets), frozen_modules(mask)
    return TrainingTerms(
        model=mask.model, model_hash=mask.model_hash, mask=mask.digest,
        frozen=tuple(name.partition("/")[2] for name in mask.frozen),
        trainable=tuple(name.partition("/")[2] for name in mask.trainable),
        lora_targets=tuple(name for name in layers if f"unet/{name}" not in held), savings=savings(model, mask))


def check_lora(model: StableDiffusion, mask: FreezeMask, targets: Sequence[str] | str) -> list[str]:
    """The layers that a LoRA with these targets is put on.

    Raises:
        UserError: one of them is frozen, or there is none.
    """
    layers, held = _layers(model.unet, targets), frozen_modules(mask)
    on = [name for name in layers if f"unet/{name}" in held]
    if not layers:
        raise UserError(f"no layer of the UNet fits the targets {targets!r}",
                        accepted="ends of names such as to_q, or a regular expression over whole names")
    if on:
        shown = ", ".join(on[:5]) + (f" and {len(on) - 5} more" if len(on) > 5 else "")
        raise UserError(f"a LoRA on {len(on)} frozen layers ({shown})",
                        accepted=f"the {len(layers) - len(on)} layers among its {len(layers)} that are not frozen",
                        remedy="take `lora_targets` of what `expunge guard apply` writes as its target_modules")
    return layers


def lora_config_targets(path: str | Path) -> Sequence[str] | str:
    """`target_modules` of a LoRA's configuration (`adapter_config.json`).

    Raises:
        UserError: it cannot be read, or names no modules.
    """
    try:
        told: Any = json.loads(Path(path).read_text(encoding="utf-8"))["target_modules"]
        if not told or not (isinstance(told, str) or all(isinstance(each, str) for each in told)):
            raise ValueError(f"target_modules is {told!r}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no configuration of a LoRA: {error}",
                        accepted="peft's adapter_config.json, with target_modules") from error
    return told if isinstance(told, str) else tuple(told)


def _layers(unet: nn.Module, targets: Sequence[str] | str) -> list[str]:
    """Paths of the linear and convolutional layers that peft would put a LoRA on."""
    if not isinstance(targets, str):
        try:
            return lora_targets(unet, None, targets)
        except UserError:
            return []
    try:
        pattern = re.compile(targets)
    except re.error as error:
        raise UserError(f"target_modules {targets!r}: {error}", accepted="a regular expression, or a list") from error
    return [name for name, layer in unet.named_modules()
            if isinstance(layer, nn.Linear | nn.Conv2d) and pattern.fullmatch(name)]
