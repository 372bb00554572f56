"""The parameters that a method changes, fit to be changed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import Parameter

from expunge.errors import UserError
from expunge.models.model import Model

TRAINED = (torch.float32, torch.bfloat16)
"""Number types of weights that can be trained. Gradients of float16 fall below its smallest
numbers, and activations of some families (Stable Diffusion XL's autoencoder, T5, FLUX) go above its largest: scaling a
loss mends the first alone. bfloat16 has the range of float32 in the same memory."""
UNDER_LORA = (*TRAINED, torch.int8)
"""Number types of weights over which a LoRA can be trained: they stay as they are."""
SOLVED = (*TRAINED, torch.float16)
"""Number types of weights that can be solved for."""


def checked_weights(model: Model, scope: str, types: Sequence[torch.dtype] = TRAINED) -> dict[str, Parameter]:
    """The parameters of `scope`, fit to be changed.

    Raises:
        UserError: a patch is on, unknown scope, weights in a number type that is none of `types`.
    """
    if model.patch_hash:
        raise UserError("the model has a patch on", accepted="the model as loaded", remedy="remove the patch first")
    params = model.parameters_in(scope)
    kinds = sorted({str(p.dtype).removeprefix("torch.") for p in params.values() if p.dtype not in types})
    if "int8" in kinds:
        raise UserError("whole weights of 8-bit blocks", accepted="a LoRA over them",
                        remedy="--lora-rank 8 with a method that trains, or load the model without --eight-bit")
    if kinds:
        raise UserError(f"training with weights in {', '.join(kinds)}, whose range is too small for gradients",
                        accepted="float32 or bfloat16",
                        remedy="load the model with dtype bfloat16, which takes as much memory, or float32; the patch "
                               "goes onto a float16 copy all the same")
    return params
