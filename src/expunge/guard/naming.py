"""Whose a tensor is, by its name: the published UNet's own, an adapter's on one of its modules, or a stranger's.

No list of adapters' names is kept, for there is always one more kind: what is not the UNet's and lies under one of its
modules is an adapter on that module. It is taken to change all of the module's tensors, unless it is known to change
the weight alone (LoRA, DoRA).

Source: ours.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from expunge.errors import ModelError

_TRACES = ("base_layer", "original_module")
"""What peft puts into the names of the tensors that it wraps."""
NETWORKS = ("unet", "transformer")
"""What pipelines call the network that is frozen, and their folders that hold it."""
_PREFIXES = (*(f"{name}{mark}" for name in NETWORKS for mark in "/."), "module.", "_orig_mod.")
_WEIGHT_ALONE = re.compile(r"lora_(A|B|magnitude_vector)(\.\w+)?\.weight|lora(_linear_layer)?\.(up|down)\.weight")
_SHOWN = 5


@dataclass(frozen=True)
class Named:
    """Names of some tensors, sorted out.

    Attributes:
        own: full name of each of the UNet's own tensors that is there -> the name that it goes by.
        adapted: full names of own tensors that an adapter changes. strays: full names of all that is neither.
    """

    own: Mapping[str, str]
    adapted: frozenset[str]
    strays: tuple[str, ...]


def named(names: Iterable[str], own: Collection[str]) -> Named:
    """Sort out names ("conv_in.weight", "conv_in.base_layer.weight", "conv_in.lora_A.default.weight").

    Args:
        own: full names of the UNet's tensors.

    Raises:
        ModelError: two names of one tensor, of which either could hide the other.
    """
    component, members = component_of(own), dict[str, list[str]]()
    for name in own:
        members.setdefault(name.rpartition(".")[0], []).append(name)
    there: dict[str, str] = {}
    adapted: set[str] = set()
    strays = []
    for name in names:
        full = f"{component}/" + ".".join(part for part in name.split(".") if part not in _TRACES)
        if full in own:
            if full in there:
                raise ModelError(f"{there[full]!r} and {name!r} are names of one tensor", accepted="each tensor once",
                                 remedy="refuse it: which of the two a program would load is not known")
            there[full] = name
            continue
        module = full.rpartition(".")[0]
        while module and module not in members:
            module = module.rpartition(".")[0]
        if not module:
            strays.append(full)
        elif f"{module}.weight" in own and _WEIGHT_ALONE.fullmatch(full.removeprefix(f"{module}.")):
            adapted.add(f"{module}.weight")
        else:
            adapted.update(members[module])
    return Named(there, frozenset(adapted), tuple(strays))


def component_of(names: Iterable[str]) -> str:
    """The component that full names belong to ("unet"); all of one mask are of the denoiser."""
    return next(iter(names), "").partition("/")[0]


def without_prefix(names: Collection[str]) -> dict[str, str]:
    """Names without the prefix that all of them carry, if there is one -> the names as they are."""
    for prefix in _PREFIXES:
        if names and all(name.startswith(prefix) for name in names):
            return {name.removeprefix(prefix): name for name in names}
    return {name: name for name in names}


def some(names: Collection[str]) -> str:
    """The first few of them, and how many more there are."""
    return ", ".join(list(names)[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
