"""What users save by not training the frozen tensors: an estimate from the shapes of one forward pass.

A layer of weight W that is used at P places costs 2 P |W| FLOPs forward, as many for the gradient of its input, and as
many for the gradient of W. So of a step's 6 sum P |W|:

    weight gradients   sum over frozen W of 2 P |W|                           (at most 1/3)
    activations        sum over layers before the first trainable one of 2 P |W|   (at most 1/3)
    memory             12 bytes per frozen parameter: float32 gradient and AdamW's two moments

Attention's own products, norms and what a framework holds on to are not counted; nor is memory of activations.

Source: ours.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from expunge.guard.mask import check_mask
from expunge.models.model import Model
from expunge.records.freezing import FreezeMask, Savings

FORMULA = ("12 B per frozen parameter (float32 gradient, AdamW's two moments); of 6 P |W| FLOPs per linear or "
           "convolutional layer, 2 P |W| where W is frozen, 2 P |W| before the first trainable tensor")


@torch.no_grad()
def savings(model: Model, mask: FreezeMask) -> Savings:
    """The estimate; runs the UNet once on one latent of the model's own size.

    Raises:
        ModelError: a mask for another model.
    """
    check_mask(mask, model)
    used, work = _forward(model)
    held = set(mask.frozen)
    first = next((name for name in used if name not in held), "")
    before = used[:used.index(first)] if first else used
    whole = 3 * sum(work.values()) or 1.0
    numel = sum(mask.tensors[name].numel for name in held)
    return Savings(memory_bytes=12 * numel, memory_share=mask.share("numel"),
                   weight_gradients=sum(work.get(name, 0.0) for name in held) / whole,
                   activations=sum(work.get(name, 0.0) for name in before) / whole, first_trainable=first,
                   formula=FORMULA)


def _forward(model: Model) -> tuple[list[str], dict[str, float]]:
    """Parameters in the order in which they are used, and P |W| of the layers' weights, by full name."""
    used: dict[str, None] = {}
    work: dict[str, float] = {}
    hooks = []

    def note(path: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            for part, p in module.named_parameters(recurse=False):
                name = f"{model.network_name}/{path}.{part}"
                used.setdefault(name)
                if part == "weight" and isinstance(module, nn.Linear | nn.Conv2d) and isinstance(output, Tensor):
                    places = output.numel() / output.shape[1 if isinstance(module, nn.Conv2d) else -1]
                    work[name] = work.get(name, 0.0) + places * p.numel()
        return hook

    for path, module in model.network.named_modules():
        if any(True for _ in module.parameters(recurse=False)):
            hooks.append(module.register_forward_hook(note(path)))
    try:
        cond = model.encode([""])
        model.predict(model.initial_noise([0]), torch.zeros(1), cond)
    finally:
        for hook in hooks:
            hook.remove()
    return list(used), work
