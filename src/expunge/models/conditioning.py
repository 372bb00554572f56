"""What a denoiser is told beside x_t and t: named tensors, a row of each for every image.

Stable Diffusion is told text states alone. Other families add pooled states, masks, sizes or a guidance scale, and all
of them travel together: whoever repeats, picks or stacks rows never names them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from expunge.errors import ExpungeError

STATES = "states"
"""The name of the text states (B, T, D), which every family has."""


@dataclass(frozen=True)
class Conditioning:
    """Named tensors.

    Attributes:
        rows: tensors whose first axis is the image, (B, ...) each; `STATES` is among them.
        shared: tensors without such an axis, the same for all images (the positions of tokens).
    """

    rows: Mapping[str, Tensor]
    shared: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        counts = {name: len(tensor) for name, tensor in self.rows.items()}
        if STATES not in counts or len({*counts.values()}) > 1:
            raise ExpungeError(f"conditioning with rows {counts}", accepted=f"{STATES!r}, and as many rows of each")

    def __len__(self) -> int:
        """B, the number of images."""
        return len(self.states)

    @property
    def states(self) -> Tensor:
        """(B, T, D) text states."""
        return self.rows[STATES]

    @property
    def ids(self) -> Tensor:
        """(B, T) int64 ids of the tokens, where the family keeps them. KeyError: it does not."""
        return self.rows["ids"]

    @property
    def device(self) -> torch.device:
        """Where the tensors lie."""
        return self.states.device

    def at(self, rows: Tensor | slice) -> Conditioning:
        """The rows at `rows`, int64 (N,) on any device, or a slice."""
        where = rows.to(self.device) if isinstance(rows, Tensor) else rows
        return self._each(lambda tensor: tensor[where])

    def repeat(self, count: int) -> Conditioning:
        """Each row `count` times in place: (B*count, ...)."""
        return self._each(lambda tensor: tensor.repeat_interleave(count, 0))

    def detach(self) -> Conditioning:
        """The same without gradient."""
        return self._each(lambda tensor: tensor.detach())

    def to(self, device: torch.device | str) -> Conditioning:
        """The same on a device."""
        return Conditioning({name: tensor.to(device) for name, tensor in self.rows.items()},
                            {name: tensor.to(device) for name, tensor in self.shared.items()})

    def with_states(self, states: Tensor) -> Conditioning:
        """The same with other text states (B, T, D)."""
        return replace(self, rows={**self.rows, STATES: states})

    def emptied(self) -> Conditioning:
        """Zeros in the place of every floating point row: some families' "told nothing"."""
        return self._each(lambda tensor: torch.zeros_like(tensor) if tensor.is_floating_point() else tensor)

    @staticmethod
    def cat(parts: Iterable[Conditioning]) -> Conditioning:
        """The rows of all parts, one after the other. ExpungeError: none, or parts that differ in what they tell."""
        every = [*parts]
        if not every or any(part.rows.keys() != every[0].rows.keys() for part in every):
            raise ExpungeError(f"conditioning put together from {[sorted(part.rows) for part in every]}",
                               accepted="at least one part, all with the same names")
        return Conditioning({name: torch.cat([part.rows[name] for part in every]) for name in every[0].rows},
                            every[0].shared)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Conditioning:
        return replace(self, rows={name: change(tensor) for name, tensor in self.rows.items()})
