"""A reservoir of samples: every sample that ever came by has the same chance to be in it.

What is in it depends on the seed and on each sample's number in the stream, not on how the stream was cut into batches
or where a run was stopped.

Source: Vitter 1985, algorithm R; Buzzega et al. 2020 (DER), which stores outputs with samples. Differs: a place is a
hash of (seed, number), not the next draw of a generator.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from expunge.continual.objective import Samples
from expunge.errors import ExpungeError


class Reservoir:
    """A reservoir, on the CPU. Tensors are made at once, so that a checkpoint finds them.

    Attributes:
        capacity: most samples; seed: decides who stays.
        inputs: (capacity, *shape); labels: int64 (capacity,); outputs: float32 (capacity, width).
        numbers: int64 (capacity,), a sample's number in the stream, -1 for a free place.
        seen: int64 (), how many samples came by.
    """

    def __init__(self, capacity: int, shape: Sequence[int], width: int, *, dtype: torch.dtype = torch.float32,
                 seed: int = 0) -> None:
        """Raises ExpungeError for a capacity below 1."""
        if capacity < 1:
            raise ExpungeError(f"a memory of {capacity} samples", accepted="1 at least, or no memory")
        self.capacity, self.seed = capacity, seed
        self.inputs = torch.zeros(capacity, *shape, dtype=dtype)
        self.labels = torch.zeros(capacity, dtype=torch.int64)
        self.outputs = torch.zeros(capacity, width)
        self.numbers = torch.full((capacity,), -1)
        self.seen = torch.tensor(0)

    def __len__(self) -> int:
        return min(self.capacity, int(self.seen))

    @property
    def state(self) -> dict[str, Tensor]:
        """All of it, by name; copying into these tensors restores it."""
        return {f"memory/{name}": getattr(self, name) for name in ("inputs", "labels", "outputs", "numbers", "seen")}

    def add(self, samples: Samples) -> None:
        """Let samples come by, with their outputs (B, width).

        Raises:
            ExpungeError: no outputs, or samples of another shape.
        """
        outputs = samples.outputs
        if outputs is None or samples.inputs.shape[1:] != self.inputs.shape[1:] \
                or outputs.shape != (len(samples.inputs), self.outputs.shape[1]):
            raise ExpungeError(f"samples {tuple(samples.inputs.shape)} with outputs "
                               f"{'none' if outputs is None else tuple(outputs.shape)}",
                               accepted=f"(B, {', '.join(map(str, self.inputs.shape[1:]))}) with outputs "
                               f"(B, {self.outputs.shape[1]})")
        first = int(self.seen)
        last = {self._place(first + row): row for row in range(len(samples.inputs))}  # a later sample overwrites
        last.pop(None, None)
        if last:
            places, rows = torch.tensor(list(last)), torch.tensor(list(last.values()))
            self.inputs[places] = samples.inputs.detach()[rows].to(self.inputs)
            self.labels[places] = samples.labels[rows].to(self.labels)
            self.outputs[places] = outputs.detach()[rows].to(self.outputs)
            self.numbers[places] = first + rows
        self.seen += len(samples.inputs)

    def draw(self, count: int, generator: torch.Generator) -> Samples | None:
        """Up to `count` different samples; None while there are none."""
        if len(self) == 0:
            return None
        rows = torch.randperm(len(self), generator=generator)[:count]
        return Samples(self.inputs[rows], self.labels[rows], self.outputs[rows])

    def _place(self, number: int) -> int | None:
        """Where sample `number` goes; None if it does not stay."""
        if number < self.capacity:
            return number
        digest = hashlib.sha256(f"{self.seed}/{number}/reservoir".encode()).digest()
        place = int.from_bytes(digest[:8], "big") % (number + 1)
        return place if place < self.capacity else None
