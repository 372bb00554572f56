"""Rounding the edited model's weights to 8 or 4 bits: does the edit survive what every deployment does?

    s = max |W[o]| / (2^(bits - 1) - 1) for each output channel o,   W' = s round(W / s)

Round to nearest, symmetric, no calibration. Simulated: weights are rounded and put back as float, activations stay as
they are; kernels for whole numbers differ in the last digits, not in what the weights can say.

Source: Nagel et al. 2021 (A White Paper on Neural Network Quantization, 2106.08295), sections 2.2 and 2.4. Differs:
biases, norms and embeddings stay.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import Parameter

from expunge.attacks.base import Access, Attack
from expunge.attacks.proposal import Batch, Candidate, Rounds
from expunge.attacks.victim import pictures_budget
from expunge.config import knob
from expunge.records import Sampler, Spent
from expunge.train import restored


class Quantise(Attack):
    """Weights rounded per output channel, to each number of bits in turn; an item is found at the first that shows it.
    """

    access: ClassVar[Access] = "weights"
    null_elsewhere: ClassVar[bool] = True
    source: ClassVar[str] = "Nagel et al. 2021 (2106.08295), section 2.2"

    bits: tuple[Annotated[int, Field(ge=2, le=16)], ...] = knob(
        (8, 4), "bits per weight, tried in this order", min_length=1)
    text_encoder: bool = knob(True, "the text encoder's layers are rounded too")

    def budget(self, sampler: Sampler) -> Spent:
        """One image per number of bits."""
        return pictures_budget(sampler, len(self.bits))

    def propose(self, batch: Batch) -> Rounds:
        """All items still standing, with the rounded weights."""
        params = batch.victim.model.parameters_in("all" if self.text_encoder else "unet")
        weights = {name: p for name, p in params.items() if p.dim() > 1}
        for bits in self.bits:
            with restored(weights):
                _round_all(weights, bits)
                note = f"weights rounded to {bits} bits per output channel (simulated)"
                yield [Candidate(row, note=note) for row in batch.standing]


def rounded(weight: Tensor, bits: int) -> Tensor:
    """The weight (out, ...) on the grid of each output channel's 2^bits - 1 values, same shape and dtype."""
    flat = weight.detach().float().flatten(1)
    most: int = 2 ** (bits - 1) - 1
    step = flat.abs().amax(1, keepdim=True) / most
    whole = (flat / step.clamp_min(torch.finfo(torch.float32).tiny)).round()
    return (whole * step).reshape(weight.shape).to(weight.dtype)


@torch.no_grad()
def _round_all(weights: dict[str, Parameter], bits: int) -> None:
    for p in weights.values():
        p.copy_(rounded(p, bits))
