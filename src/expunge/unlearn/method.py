"""What a method is, and what methods made of settings share: being overridden, checked and planned before they run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from torch.nn import Parameter
from typing_extensions import Self

from expunge.config import below, knob, merged
from expunge.models.model import Model
from expunge.models.patch import Patch
from expunge.records import Request
from expunge.train import Progress

OF_NO_WEIGHT = {"checkpoint_every", "frozen_batch"}
"""Settings that do not decide the weights."""
Surrogacy = Literal["named", "found"]
SURROGACY: Surrogacy = knob(
    "named", "What takes the place of a concept for which no anchor is named: nothing in particular (named), or the "
             "closest thing of its kind that the text encoder knows (found)")
"""The setting of that name, as recipes and closed forms share it."""


class Method(Protocol):
    """Anything that takes a concept out of a model: a recipe, a closed form, a plug-in."""

    def __call__(self, model: Model, request: Request, *, seed: int = 0, checkpoint: Path | None = None,
                 progress: Progress | None = None) -> Patch:
        """The edit as a patch; the model itself is unchanged when this returns or raises."""
        ...


@runtime_checkable
class Configured(Method, Protocol):
    """A method that is settings (`config.Settings`), all of it. Attributes: name, what the card calls it."""

    name: str

    def override(self, settings: Mapping[str, Any]) -> Self:
        """The method with some settings changed, by (dotted) name. ConfigError: every mistake at once."""
        ...

    def check(self, model: Model, request: Request) -> dict[str, Parameter]:
        """The parameters that it will change, after looking for what would go wrong later (UserError)."""
        ...

    def used_texts(self, model: Model, request: Request) -> dict[str, tuple[str, ...]]:
        """Every text that a run trains on or holds on to, by use, as `Patch.texts` has them."""
        ...

    def estimate(self, model: Model, request: Request) -> dict[str, Any]:
        """What a run takes, measured on real parts of it, JSON-able: `seconds`, `memory_bytes` (peak of the process;
        None where it is not told), `measured` (on what, in words), and what is counted."""
        ...

    def model_dump(self, *, mode: str, by_alias: bool = False) -> dict[str, Any]:
        """Every setting, JSON-able; `by_alias`: by the names that they once had, where they had others."""
        ...


def overridden(values: Mapping[str, Any], settings: Mapping[str, Any], slots: Sequence[str]) -> dict[str, Any]:
    """`settings` over `values`, deeply; a part of another kind replaces the old one whole.

    Args:
        settings: by (dotted) key; a text under a key that ends in one of `slots`, at any depth, names a part by its
            kind alone.
    """
    return _laid(below(values), merged(*({key: value} for key, value in _named(settings, slots).items())))


def _named(settings: Mapping[str, Any], slots: Sequence[str]) -> dict[str, Any]:
    """`settings` with every part that is named by its kind alone as settings."""
    out: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, str) and key.rpartition(".")[2] in slots:
            value = {"kind": value}
        out[key] = _named(value, slots) if isinstance(value, Mapping) else value
    return out


def _laid(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """`new` over `old`, deeply; a part of another kind replaces the old one whole."""
    out = dict(old)
    for key, value in new.items():
        before = out.pop(key, None)  # its key says that it lies below
        if isinstance(value, Mapping) and isinstance(before, Mapping) and (
                value.get("kind", before.get("kind")) == before.get("kind")):
            value = _laid(before, value)
        out[key] = value
    return out
