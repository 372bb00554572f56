"""A module whose weights are normals: what variational continual learning needs of a network.

    w = mean + exp(log_std) xi,   xi ~ N(0, I), one draw for a whole batch

Source: Blundell et al. 2015 (Bayes by backprop); Nguyen et al. 2018 (VCL). Differs: log of the standard deviation in
the place of a softplus; weights are drawn once per step, not once per unit.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from typing_extensions import Self

from expunge.continual.bregman import LOG_STD, MEAN
from expunge.errors import ExpungeError


class MeanField(nn.Module):
    """A module with a normal for each of its weights. Its parameters are "NAME/mean" and "NAME/log_std", dots as
    dashes.

    Attributes:
        noise: the draw of xi that the next forwards use, by name of weight; empty: the means alone.
    """

    def __init__(self, module: nn.Module, std: float = 0.02) -> None:
        """Means start at the module's weights, standard deviations at `std`.

        Raises:
            ExpungeError: a module with buffers (running statistics), of which there is one set for all draws.
        """
        super().__init__()
        if buffers := [name for name, _ in module.named_buffers()]:
            raise ExpungeError(f"a module with buffers ({buffers[0]!r}) as one with normals for weights",
                               accepted="a module without running statistics")
        self._names = {name: name.replace(".", "-") for name, _ in module.named_parameters()}
        for name, p in module.named_parameters():
            self.register_parameter(self._names[name] + MEAN, nn.Parameter(p.detach().clone()))
            self.register_parameter(self._names[name] + LOG_STD, nn.Parameter(torch.full_like(p, math.log(std))))
        self._module = [module.requires_grad_(False)]  # in a list: its own weights are no parameters of this one
        self.noise: dict[str, Tensor] = {}

    def train(self, mode: bool = True) -> Self:
        """Set the mode, the module's own included: it is no submodule of this one."""
        super().train(mode)
        self._module[0].train(mode)
        return self

    def resample(self, generator: torch.Generator | None) -> None:
        """Draw xi anew; with None, go back to the means."""
        self.noise = {} if generator is None else {
            name: torch.randn(getattr(self, mine + MEAN).shape, generator=generator).to(getattr(self, mine + MEAN))
            for name, mine in self._names.items()}

    def forward(self, *inputs: Any) -> Any:
        """The module's outputs under the weights drawn last."""
        weights = {}
        for name, mine in self._names.items():
            mean = getattr(self, mine + MEAN)
            weights[name] = mean if not self.noise else mean + getattr(self, mine + LOG_STD).exp() * self.noise[name]
        return functional_call(self._module[0], weights, inputs)
