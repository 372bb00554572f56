"""The slot for an inner adversary, which looks for what still brings the concept back while it is being
erased.

    theta* = min_theta L_erase(theta, c*),   c* = argmin_c' L_attack(theta, c')

Source: Zhang et al. 2024 (AdvUnlearn), the bilevel problem. No adversary ships yet; any settings object with
`prepare` fits the slot.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from torch import Tensor
from torch.optim import Optimizer

from expunge.models.base import Conditioning
from expunge.unlearn.source import Bench, Points, Stream


class Attacker(Protocol):
    """An adversary at work. What it changes over the steps, in `state` and `optimizers`, is checkpointed."""

    @property
    def state(self) -> Mapping[str, Tensor]: ...

    @property
    def optimizers(self) -> Mapping[str, Optimizer]: ...

    def condition(self, number: int, points: Points) -> Conditioning:
        """What the student is told at step `number` in place of the points' prompts; (B, T, D).

        The same number may be asked for more than once and must give the same answer within the step.
        """
        ...


@runtime_checkable
class Adversary(Protocol):
    """Settings of an adversary."""

    def prepare(self, bench: Bench, stream: Stream) -> Attacker:
        """An attacker on `stream`'s points."""
        ...
