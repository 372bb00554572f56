"""What a training service needs to know of a mask: names to freeze and to train, layers for a LoRA, what it saves.

Names are those of `unet.named_parameters()` and `unet.named_modules()` in diffusers, so that a service which knows
nothing of expunge can use them.

Source: ours.
"""

from __future__ import annotations

from collections.abc import Sequence

from expunge.errors import UserError
from expunge.guard.enforce import frozen_modules
from expunge.guard.lora_config import matching_layers
from expunge.guard.mask import check_mask
from expunge.guard.savings import savings
from expunge.models.lora import Lora
from expunge.models.model import Model
from expunge.records.freezing import FreezeMask, TrainingTerms


def terms(model: Model, mask: FreezeMask, targets: Sequence[str] | str = Lora().targets) -> TrainingTerms:
    """The terms on which others may fine-tune the model.

    Args:
        targets: which layers a LoRA would be put on: ends of their names, or a regular expression (a text, as in
            peft's `target_modules`). Those that are frozen are left out of the terms.

    Raises:
        ModelError: a mask for another model. UserError: targets that fit no layer.
    """
    check_mask(mask, model)
    layers, held = matching_layers(model.network, targets), frozen_modules(mask)
    if not layers:
        raise UserError(f"no layer of the UNet fits the targets {targets!r}", accepted="ends of names such as to_q")
    return TrainingTerms(
        model=mask.model, model_hash=mask.model_hash, mask=mask.digest,
        frozen=tuple(name.partition("/")[2] for name in mask.frozen),
        trainable=tuple(name.partition("/")[2] for name in mask.trainable),
        lora_targets=tuple(name for name in layers if f"{model.network_name}/{name}" not in held),
        savings=savings(model, mask))
