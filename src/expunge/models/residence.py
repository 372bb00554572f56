"""Which of a model's networks are in memory, where not all of them are needed at once.

A network leaves by giving up the values of its parameters; shape and number type stay. It comes back by reading them
from the files that it was opened from, in the same type, so that it is bit for bit as it was. Where no files tell the
values by name (single files, LoRAs that were merged in), it waits in the processor's memory if it computes on an
accelerator, and stays where it is if not.

What was changed in place since (by a patch, an attack on weights, a user) is not what the files have, and stays: torch
counts the changes of every tensor.

Two things make networks leave: an edit that has encoded all its prompts (`Residence.dismiss`), and a model that was
opened to have one kind of network in memory at a time (`apart`). Who needs one says so first (`need`); only
`models.model` does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from expunge.models.base import Role
from expunge.models.eight_bit import layers_in
from expunge.models.in_files import files_open
from expunge.models.scope import full_names


class Residence:
    """The parts of one model, by component.

    Attributes:
        apart: whether only what was asked for last, and what is held, is in memory.
        away: components that are not.
    """

    def __init__(self, parts: Mapping[str, nn.Module], roles: Mapping[str, Role], device: torch.device,
                 stored: Mapping[str, Tensor] | None, *, apart: bool = False) -> None:
        """Of parts that are on `device`; those whose parameters have no values yet (meta tensors) are away.

        `stored`: their parameters' values by full name ("unet/..."); None where no files have them.
        """
        self._parts, self._roles, self._device, self._stored = dict(parts), dict(roles), device, stored
        self._held: set[Role] = set()
        self._bound: set[Role] = set()
        self._read: dict[str, tuple[Parameter, int]] = {}
        self.apart = apart
        self.away = {name for name, part in parts.items()
                     if stored is not None and any(p.is_meta for p in part.parameters())}

    @property
    def can_leave(self) -> bool:
        """Whether there is a place from which parts come back."""
        return self._stored is not None or self._device.type != "cpu"

    @property
    def held_bytes(self) -> int:
        """Of all parameters that are on the device."""
        return sum(p.nbytes for name, part in self._parts.items() for p in part.parameters()
                   if not p.is_meta and (self._stored is not None or name not in self.away))

    def mark(self, names: Collection[str] | None = None) -> None:
        """Take the parameters of these full names for what the files have; None: all that are in memory."""
        every = {full: p for name, part in self._parts.items() for full, p in full_names(name, part).items()}
        for full in every if names is None else names:
            if self._stored is not None and not every[full].is_meta:
                self._read[full] = every[full], every[full]._version

    def unchanged(self, names: Collection[str]) -> set[str]:
        """Those of the parameters (full names) that are in memory as the files have them."""
        every = {full: p for name, part in self._parts.items() for full, p in full_names(name, part).items()}
        return {full for full in names if self._is_as_read(full, every[full])}

    def need(self, *roles: Role) -> None:
        """Have the parts in these roles in memory; of parts that are apart, the others leave."""
        if self.apart:
            stay = {*roles, *self._held, *self._bound}
            self._leave([name for name, role in self._roles.items() if role not in stay])
        if self.away:
            self._back([name for name in self.away if self._roles[name] in roles])

    def dismiss(self, role: Role) -> None:
        """Let the parts in a role leave until they are needed; not those that are held."""
        if role not in self._held | self._bound:
            self._leave([name for name, its in self._roles.items() if its == role])

    def bind(self, *roles: Role) -> None:
        """Have the parts in these roles in memory together until `part`."""
        self._bound = {*self._bound, *roles}

    def part(self) -> None:
        """Let the parts that were bound leave again, as others do."""
        self._bound = set()

    @contextmanager
    def holding(self, *roles: Role) -> Iterator[None]:
        """Inside, the parts in these roles stay in memory, whatever else is asked for."""
        before, self._held = self._held, {*self._held, *roles}
        self.need(*roles)
        try:
            yield
        finally:
            self._held = before

    def stay(self) -> None:
        """Have all parts in memory from now on: others share them, and would not know where they are."""
        self.apart = False
        self._back([*self.away])

    @torch.inference_mode(False)
    @torch.no_grad()
    def _leave(self, names: Collection[str]) -> None:
        for name in names if self.can_leave else ():
            if name in self.away:
                continue
            self.away.add(name)
            if self._stored is None:
                self._parts[name].to("cpu")
                continue
            leaving = {full: p for full, p in full_names(name, self._parts[name]).items() if self._is_as_read(full, p)}
            _exchange(self._parts[name], {id(p): Parameter(p.detach().to("meta"), requires_grad=False)
                                          for p in leaving.values()})
            for full in leaving:
                del self._read[full]

    @torch.inference_mode(False)
    @torch.no_grad()
    def _back(self, names: Collection[str]) -> None:
        for name in names:
            self.away.discard(name)
            if self._stored is None:
                self._parts[name].to(self._device)
                continue
            self._read_in(name)

    def _read_in(self, name: str) -> None:
        coming = [full for full, p in full_names(name, self._parts[name]).items() if p.is_meta]
        with files_open(self._stored):
            for full, layer in layers_in(name, self._parts[name]):
                if layer.weight.is_meta:
                    assert self._stored is not None
                    layer.fill(self._stored[full].to(self._device, layer.wide))
            there = {id(p): Parameter(self._value(full, p), requires_grad=False)
                     for full, p in full_names(name, self._parts[name]).items() if p.is_meta}
        _exchange(self._parts[name], there)
        self.mark(coming)

    def _is_as_read(self, full: str, p: Parameter) -> bool:
        read = self._read.get(full)
        return read is not None and read[0] is p and read[1] == p._version

    def _value(self, full: str, empty: Tensor) -> Tensor:
        """What the files have, in the parameter's number type, and in memory of its own."""
        assert self._stored is not None
        value = self._stored[full]
        moved = value.to(self._device, empty.dtype)
        return moved.clone() if moved is value else moved


def _exchange(network: nn.Module, by: Mapping[int, Parameter]) -> None:
    """Put other parameters in the place of those with these ids, in every layer that holds them."""
    for module in network.modules():
        for name, p in module._parameters.items():
            if p is not None and id(p) in by:
                module._parameters[name] = by[id(p)]
