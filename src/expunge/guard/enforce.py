"""Keep frozen tensors frozen in any training loop: diffusers, accelerate, one's own.

    with guarded(unet, mask, optimizers=[optimizer]) as guard:
        for batch in loader:
            ...
            guard.check()          # as often as wanted; leaving the context checks once more

A gradient that is switched off is not enough: AdamW's decay moves a parameter whose gradient is zero rather than
absent. So frozen tensors are taken out of the optimizers, too, and whether they stayed is seen by their hashes.

It enforces where the loop is yours. Whoever holds the weights elsewhere can do without: then only `verify` helps.

Source: ours. Differs: the published scripts switch gradients off by position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from torch import nn
from torch.nn import Parameter

from expunge.errors import ExpungeError, ModelError, UserError, check_type
from expunge.guard.mask import check_names, content_hash
from expunge.guard.naming import NETWORKS, Named, component_of, named, some
from expunge.models.model import Model
from expunge.records.freezing import FreezeMask

_DEEPEST = 8
"""Wrappers around a UNet that are looked through."""


class DriftError(ExpungeError):
    """A tensor that was to stay frozen moved, or is about to."""


class Optimizing(Protocol):
    """An optimizer, or what accelerate wraps around one."""

    param_groups: list[dict[str, Any]]
    state: Any


class Guard:
    """A model whose frozen tensors are watched.

    Attributes:
        module: the UNet underneath all wrappers. frozen: its frozen parameters by full name, as they were at the start.
    """

    def __init__(self, module: nn.Module, mask: FreezeMask, check_weights: bool) -> None:
        self.module, self.mask = module, mask
        now, found = self._now()
        check_names(mask, {**{name: p.numel() for name, p in now.items()}, **dict.fromkeys(found.strays, 0)})
        self.frozen = {name: now[name] for name in mask.frozen}
        refuse_adapters(found, mask)
        self._expected = {name: content_hash(name, p) for name, p in self.frozen.items()}
        if check_weights:
            odd = [name for name in self.frozen if self._expected[name] != mask.tensors[name].sha256]
            if odd:
                raise ModelError(f"{len(odd)} of {len(self.frozen)} frozen tensors are not as they were published "
                                 f"({some(odd)})", accepted=f"the weights of {mask.model}, as they were published",
                                 remedy="load the mask's own model in float32; for weights that were cast on purpose "
                                        "pass check_weights=False, and let `verify` see the result")

    def strip(self, optimizer: Optimizing) -> int:
        """Take the frozen parameters out of an optimizer's groups and state; how many there were."""
        held, found = {id(p) for p in self.frozen.values()}, 0
        for group in optimizer.param_groups:
            kept = [p for p in group["params"] if id(p) not in held]
            found += len(group["params"]) - len(kept)
            group["params"][:] = kept
        for p in self.frozen.values():
            optimizer.state.pop(p, None)
        return found

    def drift(self) -> list[str]:
        """Names of frozen tensors that moved, are missing or were replaced, and of parameters that nobody knows."""
        return [name for names in self._drift().values() for name in names]

    def check(self) -> None:
        """Look whether everything is as it must be.

        Raises:
            DriftError: a frozen tensor moved, is missing, is another parameter than before, or has its gradient
                switched on again; or there are parameters that are neither the UNet's nor an adapter's.
            UserError: an adapter was put on a frozen module.
        """
        found = self._drift()
        if found:
            raise DriftError("; ".join(f"{len(names)} {what} ({some(names)})" for what, names in found.items()),
                             accepted="tensors as they were published", remedy="find what changes them: an optimizer "
                             "that was made before the mask was applied, a merged LoRA, an average of the weights, "
                             "modules that were exchanged")
        on = [name for name, p in self.frozen.items() if p.requires_grad]
        if on:
            raise DriftError(f"the gradients of {len(on)} frozen tensors were switched on again ({some(on)})",
                             accepted="no call of requires_grad_(True) on the whole model inside `guarded`")
        refuse_adapters(self._now()[1], self.mask)

    def _now(self) -> tuple[dict[str, Parameter], Named]:
        """The UNet's own parameters by full name as the module holds them now, and all names sorted out."""
        params = dict(self.module.named_parameters())
        found = named(params, self.mask.tensors)
        return {full: params[name] for full, name in found.own.items()}, found

    def _drift(self) -> dict[str, list[str]]:
        """What happened -> names; without what did not happen."""
        now, found = self._now()
        there = [name for name in self.frozen if name in now]
        reasons = {
            "frozen tensors moved": [name for name in there if now[name] is self.frozen[name]
                                     and content_hash(name, now[name]) != self._expected[name]],
            "frozen tensors were replaced": [name for name in there if now[name] is not self.frozen[name]],
            "frozen tensors are missing": [name for name in self.frozen if name not in now],
            "parameters are not the model's": list(found.strays)}
        return {what: names for what, names in reasons.items() if names}


@contextmanager
def guarded(model: Any, mask: FreezeMask, *, optimizers: Optimizing | Iterable[Optimizing] = (),
            check_weights: bool = True, unwrap: Callable[[Any], Any] | None = None) -> Iterator[Guard]:
    """Inside, the frozen tensors have no gradients and are in none of the optimizers; at the end nothing has moved.

    Afterwards the gradients' switches are as before; optimizers stay without the frozen tensors, and their values are
    whatever they are: an error says so, it does not repair.

    Args:
        model: a UNet, a pipeline with one, what expunge.load returns, or any of accelerate's and torch's wrappers
            around a UNet.
        optimizers: one, or those, that were made already; give later ones to `Guard.strip`.
        check_weights: compare the frozen tensors with the mask's hashes first. Without it they are held at what they
            are now.
        unwrap: how to get at the UNet, such as `accelerator.unwrap_model`; None: by the wrappers' attributes.

    Raises:
        ModelError: a mask for another model. UserError: a LoRA or another adapter on a frozen module,
            optimizers that are none, or a DistributedDataParallel that was made while frozen tensors trained.
        DriftError: on leaving (unless another error is on its way), a frozen tensor moved.
    """
    check_type(mask, FreezeMask, "mask", "what expunge.learn_mask or expunge.load_mask returns")
    module = unwrapped(unwrap(model) if unwrap else model)
    made = _listed(optimizers)
    guard = Guard(module, mask, check_weights)
    _refuse_waiting(model, guard)
    flags = {name: p.requires_grad for name, p in guard.frozen.items()}
    try:
        for p in guard.frozen.values():
            p.requires_grad_(False)
            p.grad = None
        for optimizer in made:
            guard.strip(optimizer)
        yield guard
        guard.check()
    finally:
        for name, p in guard.frozen.items():
            p.requires_grad_(flags[name])


def unwrapped(model: Any) -> nn.Module:
    """The network in a pipeline or in a model of ours, underneath DistributedDataParallel and torch.compile.

    Raises:
        UserError: there is none.
    """
    layers = list(_layers(model))
    if not isinstance(layers[-1], nn.Module):
        raise UserError(f"{type(model).__name__} as the model to guard",
                        accepted="a UNet or a transformer, a pipeline with one, or what expunge.load returns")
    return layers[-1]


def _layers(model: Any) -> Iterator[Any]:
    """The model, what it wraps, what that wraps, and so on."""
    inner = model
    for _ in range(_DEEPEST):
        yield inner
        if isinstance(inner, nn.Module):
            inner = getattr(inner, "_orig_mod", None) or (
                inner.module if isinstance(inner, nn.parallel.DistributedDataParallel | nn.DataParallel) else None)
        else:
            inner = inner.network if isinstance(inner, Model) else next(
                (getattr(inner, name) for name in NETWORKS if getattr(inner, name, None) is not None), None)
        if inner is None:
            return


def _refuse_waiting(model: Any, guard: Guard) -> None:
    """UserError where a DistributedDataParallel would wait for gradients of frozen tensors that never come."""
    held = {id(p) for p in guard.frozen.values()}
    for layer in _layers(model):
        if not isinstance(layer, nn.parallel.DistributedDataParallel) or layer.find_unused_parameters:
            continue
        waits = layer._get_ddp_logging_data()["num_parameter_tensors"]  # of when it was made; told nowhere else
        train = sum(p.requires_grad and id(p) not in held for p in layer.parameters())
        if waits > train:
            raise UserError(f"a DistributedDataParallel that waits for the gradients of {waits} tensors, of which "
                            f"{train} train under the mask", accepted="a model that is guarded first and wrapped then",
                            remedy="enter `guarded` before accelerator.prepare, or pass find_unused_parameters=True")


def refuse_adapters(found: Named, mask: FreezeMask) -> None:
    """UserError if a LoRA (or another adapter) changes a frozen tensor."""
    on = sorted({name.rpartition(".")[0] for name in found.adapted & set(mask.frozen)})
    if on:
        raise UserError(f"an adapter on {len(on)} frozen modules ({some(on)})",
                        accepted="adapters on modules whose weights are not frozen, and that leave frozen biases alone",
                        remedy="choose its target modules with `lora_targets`, or `expunge guard apply`")


def frozen_modules(mask: FreezeMask) -> set[str]:
    """Modules with a frozen weight: no LoRA may be put on them."""
    return {name.rpartition(".")[0] for name in mask.frozen if name.endswith(".weight")}


def lora_targets(module: nn.Module, mask: FreezeMask | None, ends: Iterable[str] = ("to_q", "to_k", "to_v", "to_out.0")
                 ) -> list[str]:
    """Full paths of the layers that a LoRA may be put on, for peft's `LoraConfig(target_modules=...)`.

    Args:
        mask: None: nothing is frozen.
        ends: ends of the names of its layers, as in a LoRA's configuration.

    Raises:
        UserError: none is left, or none is there.
    """
    wanted = [name for name, layer in module.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)
              and any(name == end or name.endswith(f".{end}") for end in ends)]
    held, component = (frozen_modules(mask), component_of(mask.tensors)) if mask else (set(), "")
    free = [name for name in wanted if f"{component}/{name}" not in held]
    if not free:
        raise UserError(f"no layer is left for a LoRA: {len(wanted)} match, and none of them is free",
                        accepted="ends of names of layers that are not frozen")
    return free


def _listed(optimizers: Optimizing | Iterable[Optimizing]) -> list[Optimizing]:
    """UserError unless all of them are optimizers."""
    one = hasattr(optimizers, "param_groups")
    made: list[Any] = [optimizers] if one else list(optimizers) if isinstance(optimizers, Iterable) else [optimizers]
    odd = [each for each in made if not (hasattr(each, "param_groups") and hasattr(each, "state"))]
    if odd:
        raise UserError(f"{type(odd[0]).__name__} as an optimizer", accepted="an optimizer of torch, or a list of them")
    return made
