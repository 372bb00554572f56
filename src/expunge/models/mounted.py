"""The patch that is on a model's networks: what it replaced comes back bit for bit."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from expunge.models.eight_bit import EightBit, widened
from expunge.models.networks import Networks
from expunge.models.patch import Patch


class Mounted:
    """The place for one patch.

    Attributes:
        hash: of the patch that is on, "" if none. replaced: the values that it put others in the place of, by full
            name; the same mapping for good, empty where none is on.
    """

    def __init__(self) -> None:
        self.hash, self.replaced = "", dict[str, Tensor]()
        self._widened: list[tuple[nn.Module, str, EightBit]] = []
        self._filed: set[str] = set()

    @torch.no_grad()
    def put_on(self, patch: Patch, networks: Networks, parts: Mapping[str, nn.Module]) -> None:
        """Exchange the values of a patch that fits; blocks in 8 bits are wide in `parts` where it changes them."""
        self._widened = widened(parts, patch.weights)
        mine = changed_by(patch, networks)
        self._filed = networks.residence.unchanged(patch.weights)
        self.replaced |= {name: mine[name].detach().clone() for name in patch.weights}
        for name, weight in self.replaced.items():
            mine[name].copy_(patch.value(name, weight))
        self.hash = patch.hash

    @torch.no_grad()
    def take_off(self, networks: Networks) -> None:
        """Bring back what was there."""
        mine = networks.every("denoiser", "text")
        for name, value in self.replaced.items():
            mine[name].copy_(value)
        networks.residence.mark(self._filed)
        for parent, name, layer in self._widened:
            setattr(parent, name, layer)
        self.settle()

    def settle(self) -> None:
        """Take the networks as they are for networks without a patch."""
        self.replaced.clear()
        self.hash, self._widened, self._filed = "", [], set()

    def copied(self) -> Mounted:
        """The same for a copy of the networks, which goes its own way."""
        twin = Mounted()
        twin.hash, twin.replaced, twin._widened = self.hash, dict(self.replaced), list(self._widened)
        twin._filed = set(self._filed)
        return twin


def changed_by(patch: Patch, networks: Networks) -> dict[str, Parameter]:
    """Parameters of the components that a patch changes, in memory."""
    roles = sorted(networks.roles_of(patch.weights))
    networks.need(*roles)
    return networks.every(*roles)
