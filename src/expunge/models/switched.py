"""A family's networks, asked with what trains in them left out: the original, without a second copy of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from torch import Tensor, nn

from expunge.errors import ExpungeError
from expunge.models.base import Denoiser
from expunge.models.conditioning import Conditioning
from expunge.models.text import Tokens

Off = Callable[[], AbstractContextManager[Any]]
"""Inside what it gives, the networks compute as they did before anything trained."""


class Switched:
    """A `models.base.Denoiser` over the networks of another one, which are asked inside `off`."""

    def __init__(self, inner: Denoiser, off: Off) -> None:
        self._inner, self._off = inner, off

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def condition(self, tokens: Sequence[Tokens], embeddings: Mapping[int, Tensor]) -> Conditioning:
        """The original's."""
        with self._off():
            return self._inner.condition(tokens, embeddings)

    def predict(self, x_t: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """The original's."""
        with self._off():
            return self._inner.predict(x_t, t, cond)

    def with_components(self, components: Mapping[str, nn.Module]) -> Denoiser:
        """ExpungeError: a copy would hold what trains, and this is what it is without."""
        raise ExpungeError("a copy of a teacher that shares its networks with what trains",
                           accepted="a copy of the model, made before anything trains")
