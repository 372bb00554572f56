"""The model that a patch is exported from, or that somebody else's edit is compared with: names, places and weights."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from expunge.errors import UserError
from expunge.models.file_weights import FileWeights
from expunge.models.model import Model
from expunge.models.opening import Location, pipeline_class
from expunge.models.patch import Patch
from expunge.models.scope import full_names
from expunge.models.single_file import SingleFile
from expunge.models.source import Source
from expunge.models.store import load


@dataclass(frozen=True)
class Base:
    """A base model, opened.

    Attributes:
        source: what the caller named. place: the folder or single file behind it, and how it is read.
        folder: the diffusers folder with its configs (of a single file, the one that lends them).
        kind: the class of its pipeline. file: the single file, where it is one.
        model: in the number types of its files. weights: as its files hold them, by full name.
    """

    source: Source
    place: Location
    folder: Path
    kind: str
    file: SingleFile | None
    model: Model
    weights: Mapping[str, Tensor]

    def module(self, component: str) -> nn.Module:
        """The network of that name, for its names and shapes."""
        return self.model.denoiser.components[component]

    def names(self, component: str) -> dict[str, nn.Parameter]:
        """A component's parameters by full name."""
        return full_names(component, self.module(component))

    def opened(self, lora: str | Sequence[str] = ()) -> Model:
        """The base once more, in float32, with these LoRAs on top. Raises: as `models.store.load`."""
        return _loaded(self.source, self.place, lora=lora)

    @property
    def texts(self) -> tuple[str, ...]:
        """The text encoders' components."""
        return self.model.text_names

    @property
    def network(self) -> str:
        """The denoiser's component."""
        return self.model.network_name

    @property
    def editable(self) -> tuple[str, ...]:
        """Components that a patch may change."""
        return (self.network, *self.texts)


def open_base(source: Source, place: Location) -> Base:
    """Open a model to be exported from or compared with; `place`: as `models.store.located` has it of the source.

    Raises:
        ModelError, UserError: as `models.store.load`.
    """
    file = SingleFile.open(place.path) if place.path.is_file() else None
    folder = place.path if file is None else file.folder(source.parts)
    whole = bool(source.loras)  # what a LoRA changed is in float32
    model = _loaded(source, place, "float32" if whole else "auto", verify=True)
    weights: Mapping[str, Tensor] | None = model.stored
    if file is not None and not whole:
        weights = FileWeights(file, folder, model.denoiser, place.variant)
    elif weights is None:
        if model.dtype != torch.float32:
            model = _loaded(source, place, verify=True)
        weights = model.parameters_of("denoiser", "text", "autoencoder")
    return Base(source, place, folder, pipeline_class(folder), file, model, weights)


def _loaded(source: Source, place: Location, dtype: str = "float32", *, verify: bool = False,
            lora: str | Sequence[str] = ()) -> Model:
    """The model on the processor, read as its place says."""
    return load(source, device="cpu", dtype=dtype, verify=verify, allow_pickle=place.allow_pickle,
                variant=place.variant, lora=lora)


@dataclass(frozen=True)
class Change:
    """What an edit makes of one weight. before: as the base's files hold it; after: float32, in the same shape."""

    name: str
    before: Tensor
    after: Tensor

    @property
    def delta(self) -> Tensor:
        """float64"""
        return self.after.double() - self.before.double()


def check_patch(patch: Patch, base: Base) -> str:
    """Whether the patch was made on this base; what must be said of one that is not the same to the bit.

    Raises:
        ModelError: made for another model.
    """
    return patch.check(base.model, base.model.shapes_of([*_every(base)]))


def _every(base: Base) -> Iterator[str]:
    for component in base.editable:
        yield from base.names(component)


@torch.no_grad()
def changes(patch: Patch, base: Base, names: Collection[str] | None = None) -> Iterator[Change]:
    """What the patch makes of every weight that it changes, one after the other; those that stay equal are left out.

    Args:
        names: those of the patch's weights that are looked at; None: all.
    """
    for name in sorted(patch.weights if names is None else names):
        before = base.weights[name].detach()
        after = patch.value(name, before).float()
        if not torch.equal(after, before.float()):
            yield Change(name, before, after)


def told(change: Change, number: torch.dtype) -> tuple[int, int]:
    """How many numbers change, and how many of them are another number than before in this type."""
    before, after = change.before.float(), change.after
    moved = before != after
    kept = moved & (before.to(number) != after.to(number))
    return int(moved.sum()), int(kept.sum())


def only_component(patch: Patch, asked: str, base: Base) -> str:
    """The one component that a file of one component holds: the one asked for, or the only one that changes.

    Raises:
        UserError: the patch changes others too, or nothing of it.
    """
    parts = sorted({name.partition("/")[0] for name in patch.weights})
    if asked and asked not in base.editable:
        raise UserError(f"component {asked!r}", accepted=", ".join(base.editable))
    if not asked and len(parts) > 1:
        raise UserError(f"a patch of {' and '.join(parts)} in a file of one component",
                        accepted="a patch of one component", remedy="name one with --component, and export the others "
                        "too: without them the edit is not whole")
    chosen = asked or parts[0]
    if chosen not in parts:
        raise UserError(f"a patch that changes nothing in the {chosen}", accepted=", ".join(parts))
    return chosen
