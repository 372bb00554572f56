"""Gradient projection: steps of keys and values that leave alone what these make of other prompts.

    dW <- dW (I - U U^T),   U (D, r) the leading eigenvectors of C C^T, C the text states (D, n) of prompts to keep

for W (out, D). The r directions are the fewest that hold a share `energy` of the states' second moment; with all of
them the step would be zero wherever the kept states span all of D, as they soon do where every position counts.

Source: CUIG (2511.07970). Differs: see `strategy.Projection`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from expunge.errors import ConfigError
from expunge.models.model import Model
from expunge.sequence.strategy import Projection
from expunge.train import Losses
from expunge.unlearn.update import LossFn, Stepper


@torch.no_grad()
def kept_directions(model: Model, prompts: Sequence[str], settings: Projection) -> Tensor:
    """(D, r), orthonormal: the directions of text states of `prompts` that hold `energy` of their second moment."""
    C = torch.cat([model.encode([text]).states[0] for text in prompts]).double()  # (n, D)
    values, vectors = torch.linalg.eigh(C.T @ C)
    share = values.flip(0).cumsum(0) / values.sum()
    r = int((share < settings.energy).sum()) + 1
    U: Tensor = vectors.flip(1)[:, :r].float()
    return U


def keys_and_values(model: Model, params: Mapping[str, Parameter]) -> dict[str, Parameter]:
    """Those of `params` that make keys or values of text states: what projection acts on.

    Raises:
        ConfigError: there are none.
    """
    known = model.reading_text()
    layers = {name: p for name, p in params.items() if name in known and p.ndim == 2}
    if not layers:
        raise ConfigError("projection where no keys or values of text states train",
                          accepted="a scope with xattn.kv in it", remedy="another strategy, or another scope")
    return layers


class Projected:
    """A stepper around another one, whose steps of keys and values it projects."""

    def __init__(self, inner: Stepper, directions: Tensor, layers: Mapping[str, Parameter]) -> None:
        """`layers`: weights (out, D) of keys and values, by name."""
        self._inner, self._U, self._layers = inner, directions, layers

    @property
    def state(self) -> Mapping[str, Tensor]:
        """The inner one's."""
        return self._inner.state

    def step(self, erase: LossFn, keep: LossFn | None, params: Mapping[str, Parameter], optimizer: Optimizer,
             hold: LossFn | None = None) -> Losses:
        """The inner step, projected afterwards."""
        before = {name: W.detach().clone() for name, W in self._layers.items()}
        losses = self._inner.step(erase, keep, params, optimizer, hold)
        with torch.no_grad():
            for name, W in self._layers.items():
                dW = W - before[name]
                W.copy_(before[name] + dW - (dW @ self._U) @ self._U.T)
        return losses
