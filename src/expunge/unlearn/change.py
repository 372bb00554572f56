"""What an edit changes while it is made: parameters that train, and a switch that leaves them out.

The teacher is the student's own networks with the switch off. So a model is in memory once, in the number type in which
it was opened, and beside it only this:

| | trains | beside the model |
| --- | --- | --- |
| weights in float32 | the weights themselves | the scope's originals |
| weights in bfloat16 | float32 masters of the scope, cast for each forward | the masters |
| a LoRA | its factors, float32 | the factors |

Every layer takes its weights anew when it is called, also where a forward is made again in the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from expunge.errors import ExpungeError, UserError
from expunge.models.lora import Adapters, with_adapters
from expunge.models.model import Model
from expunge.models.patch import A, B
from expunge.records.card import Kind
from expunge.train import restored

Standing = Callable[[Sequence[Tensor]], Sequence[Tensor]]
"""Gives a stand-in for each of the tensors."""


class Change(Protocol):
    """Attributes: params: what trains, by name; state: what else a run that goes on must know."""

    @property
    def params(self) -> Mapping[str, Parameter]: ...

    @property
    def state(self) -> Mapping[str, Tensor]: ...

    def teacher(self, model: Model) -> Model:
        """The model with the change left out, bit for bit as it was."""
        ...

    def through(self, stand: Standing) -> AbstractContextManager[None]:
        """Inside, layers compute with what `stand` makes of all parameters, in the order of `params`."""
        ...

    def made(self) -> Made:
        """What it has come to."""
        ...


@dataclass(frozen=True)
class Made:
    """What a patch is made of.

    Attributes:
        tensors: by name: new values of weights, or factors; those alone that are other than at the beginning.
        kind: how they change weights. scale: of a LoRA's product.
    """

    tensors: Mapping[str, Tensor]
    kind: Kind = "replace"
    scale: float = 1.0


@dataclass
class Whole:
    """A change of whole tensors; `whole` makes one.

    Attributes:
        params: what trains; before: the weights as they were; types: number types in which the layers take them.
    """

    params: Mapping[str, Parameter]
    before: Mapping[str, Tensor]
    types: Mapping[str, torch.dtype]
    _off: bool = field(default=False, init=False)
    _called: Tensor = field(init=False)
    _stand_ins: Mapping[str, Tensor] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._called = torch.zeros(len(self.params), dtype=torch.bool)
        self._places = {name: place for place, name in enumerate(self.params)}

    @property
    def state(self) -> Mapping[str, Tensor]:
        """Which layers were called, in the order of `params`: a run that goes on may have no step left that calls them.
        """
        return {"called": self._called}

    @contextmanager
    def off(self) -> Iterator[None]:
        """Inside, the layers take their weights as they were."""
        was, self._off = self._off, True
        try:
            yield
        finally:
            self._off = was

    def teacher(self, model: Model) -> Model:
        """The same networks, with the change left out whenever this one is asked."""
        return model.without(self.off)

    @contextmanager
    def through(self, stand: Standing) -> Iterator[None]:
        """See `Change.through`."""
        was, self._stand_ins = self._stand_ins, stood(self.params, stand)
        try:
            yield
        finally:
            self._stand_ins = was

    def taken(self, name: str) -> Tensor:
        """What the layer computes with now: of a master in another type with a way for the gradient."""
        self._called[self._places[name]] = True
        return self.before[name] if self._off else self._stand_ins.get(name, self.params[name]).to(self.types[name])

    def made(self) -> Made:
        """The weights that are other than before, in the number type in which the layers take them.

        Raises:
            ExpungeError: a layer was never called, so that no teacher was without its change.
        """
        now = {name: p.detach().to(self.types[name]) for name, p in self.params.items()}
        changed = {name: value.clone() for name, value in now.items() if not torch.equal(value, self.before[name])}
        if aside := [name for name in changed if not self._called[self._places[name]]]:
            raise ExpungeError(f"{aside[0]!r} is used without its layer being called, so it was never left out",
                               accepted="networks that call their layers", remedy="another scope")
        return Made(changed)


@contextmanager
def whole(model: Model, params: Mapping[str, Parameter]) -> Iterator[Whole]:
    """Inside, the parameters (by full name) train; afterwards they are as before, bit for bit, and so is the model."""
    types = {name: p.dtype for name, p in params.items()}
    # What is in float32 trains itself; of the rest a master does, and its own values, which stay, are the originals.
    wide = {name: p for name, p in params.items() if p.dtype == torch.float32}
    with restored(wide) as before, ExitStack() as stack:
        masters = {name: p if name in wide else Parameter(p.detach().float()) for name, p in params.items()}
        change = Whole(masters, {name: before[name] if name in before else p.detach() for name, p in params.items()},
                       types)
        for p in masters.values():
            p.requires_grad_(True)
        for place in _places(model, params):
            stack.enter_context(place.taking(change))
        yield change


@dataclass(frozen=True)
class _Place:
    """A layer, and by their names in it the full names of those of its weights that train."""

    layer: nn.Module
    names: Mapping[str, str]

    @contextmanager
    def taking(self, change: Whole) -> Iterator[None]:
        """Inside, the layer takes its weights from the change, whenever it is called."""
        mine: dict[str, Any] = self.layer._parameters
        own = {name: mine[name] for name in self.names}

        def take(layer: nn.Module, given: Any) -> None:
            mine.update({name: change.taken(full) for name, full in self.names.items()})

        def leave(layer: nn.Module, given: Any, out: Any) -> None:
            mine.update(own)

        hooks = [self.layer.register_forward_pre_hook(take),
                 self.layer.register_forward_hook(leave, always_call=True)]  # a forward that is made again is cut short
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            mine.update(own)


def _places(model: Model, params: Mapping[str, Parameter]) -> list[_Place]:
    """Every layer that holds one of the parameters; a tied one is held by several."""
    full = {id(p): name for name, p in params.items()}
    out = []
    for component in dict.fromkeys(name.partition("/")[0] for name in params):
        for layer in model.component(component).modules():
            names = {name: full[id(p)] for name, p in layer._parameters.items() if p is not None and id(p) in full}
            if names:
                out.append(_Place(layer, names))
    return out


@dataclass(frozen=True)
class LowRank:
    """A change by a LoRA; `low_rank` makes one.

    Attributes:
        adapters: the LoRA's layers; scale: of its product.
    """

    adapters: Adapters
    scale: float

    @property
    def params(self) -> Mapping[str, Parameter]:
        """The factors."""
        return self.adapters.params

    @property
    def state(self) -> Mapping[str, Tensor]:
        """Nothing."""
        return {}

    def teacher(self, model: Model) -> Model:
        """The same networks, with the LoRA off whenever this one is asked."""
        return model.without(self.adapters.off)

    @contextmanager
    def through(self, stand: Standing) -> Iterator[None]:
        """See `Change.through`."""
        with self.adapters.computing_with(stood(self.params, stand)):
            yield

    def made(self) -> Made:
        """Both factors of every layer that has a change."""
        now = {name: p.detach().clone() for name, p in self.params.items()}
        kept = {name for name in now if bool(now[name.replace(A, B)].any()) and bool(now[name.replace(B, A)].any())}
        return Made({name: now[name] for name in now if name in kept}, "lora", self.scale)


@contextmanager
def low_rank(model: Model, weights: Collection[str], rank: int, *, seed: int) -> Iterator[LowRank]:
    """Inside, a LoRA on the layers of these weights (full names) trains; afterwards the model is as before.

    Raises:
        UserError: peft is not installed.
    """
    parts = {name: model.component(name) for name in dict.fromkeys(full.partition("/")[0] for full in weights)}
    with with_adapters(parts, weights, rank, seed=seed) as adapters:
        yield LowRank(adapters, 1.0)


def stood(params: Mapping[str, Parameter], stand: Standing) -> dict[str, Tensor]:
    """The stand-ins by name."""
    return dict(zip(params, stand([*params.values()]), strict=True))


@contextmanager
def checkpointed(network: nn.Module, on: bool) -> Iterator[None]:
    """Inside, a network keeps an activation of each block and makes the others again, if `on`.

    Raises:
        UserError: a network that cannot.
    """
    if on and not getattr(network, "_supports_gradient_checkpointing", False):
        raise UserError(f"checkpointing of a {type(network).__name__}", accepted="networks that support it",
                        remedy="leave checkpointing off, or lower the batch")
    mine: Any = network
    if on:
        mine.enable_gradient_checkpointing()
    try:
        yield
    finally:
        if on:
            mine.disable_gradient_checkpointing()
