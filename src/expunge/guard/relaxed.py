"""A simulated user at a mask between 0 and 1: theta(m) = m theta_pre + (1 - m) theta_ft, tensor by tensor.

The user trains theta_ft by its own optimizer, through theta(m):

    dL/dtheta_ft = (1 - m) dL/dtheta,      dL/dm_i = <theta_pre,i - theta_ft,i, dL/dtheta_i>

The second is all that a mask step needs: one ordinary backward pass and a dot product per tensor. Of a LoRA, theta_ft
differs from theta_pre by s B A on its layers alone; the layers' scales are set to (1 - m) s, and

    dL/dm_i = -<B_i, dL/dB_i> / (1 - m_i)

Source: Huang et al. 2024 (FreezeAsGuard, 2405.17472), section 3; chain rules are ours, tested against autograd.
Differs: any optimizer, where the published inner loop is SGD; LoRA.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from expunge.errors import ExpungeError

_LEAST = 1e-6
"""Least scale of a LoRA under the mask: a mask of 1 would leave no trace to differentiate by."""


class Training(Protocol):
    """A user in the middle of training: what `finetune.Tuner` is."""

    params: dict[str, Parameter]
    optimizer: torch.optim.Optimizer

    def loss(self, number: int) -> Tensor: ...


class Trial(Protocol):
    """A user at a mask."""

    def set(self, m: Tensor) -> None:
        """Take this mask, float64 (tensors,), from now on."""
        ...

    def step(self, number: int) -> float:
        """One step of the user's training at the mask; its loss."""
        ...

    def gradient(self, loss: Tensor) -> Tensor:
        """d loss / d m, float64 (tensors,), at the weights as they are."""
        ...


class WholeUser:
    """A user who trains tensors themselves. Theirs are in `params` at theta(m); theta_ft lies beside them.

    Memory beside the training's own: theta_ft, one copy of what trains (theta_pre is the copy that `restored` keeps).
    """

    def __init__(self, training: Training, published: Mapping[str, Tensor], names: Sequence[str], clip: float) -> None:
        """A user of the tensors `names`, whose published values are given for all that train."""
        self._training, self._names, self._clip = training, tuple(names), clip
        self._pre = published
        self._ft = {name: p.detach().clone() for name, p in training.params.items()}
        self._m = dict.fromkeys(training.params, 0.0)

    @torch.no_grad()
    def set(self, m: Tensor) -> None:
        self._m = {name: value for name, value in zip(self._names, m.tolist(), strict=True)
                   if name in self._training.params}
        for name, p in self._training.params.items():
            p.copy_(self._at(name))

    def step(self, number: int) -> float:
        training, params = self._training, self._training.params
        loss = training.loss(number)
        training.optimizer.zero_grad()
        loss.backward()
        for name, p in params.items():
            if p.grad is not None:
                p.grad.mul_(1 - self._m[name])
        nn.utils.clip_grad_norm_(params.values(), self._clip)
        with torch.no_grad():
            for name, p in params.items():
                p.copy_(self._ft[name])
            training.optimizer.step()
            for name, p in params.items():
                self._ft[name].copy_(p)
                p.copy_(self._at(name))
        return float(loss.detach())

    def gradient(self, loss: Tensor) -> Tensor:
        params = self._training.params
        each = dict(zip(params, torch.autograd.grad(loss, list(params.values()), allow_unused=True), strict=True))
        return torch.tensor([0.0 if each.get(name) is None else
                             float(((self._pre[name] - self._ft[name]) * each[name]).sum())
                             for name in self._names], dtype=torch.float64)

    def _at(self, name: str) -> Tensor:
        """theta(m); exactly theta_pre where m is 1."""
        m, ft = self._m[name], self._ft[name]
        return self._pre[name] if m == 1 else torch.lerp(ft, self._pre[name], m)


class LoraUser:
    """A user who trains a LoRA on a module; the mask is on the weights underneath.

    Raises:
        ExpungeError: the module has no LoRA.
    """

    def __init__(self, training: Training, module: nn.Module, names: Sequence[str], clip: float, component: str
                 ) -> None:
        self._training, self._names, self._clip = training, tuple(names), clip
        self._layers = {f"{component}/{path}.weight": layer for path, layer in module.named_modules()
                        if getattr(layer, "lora_B", None) and getattr(layer, "scaling", None)}
        if not self._layers:
            raise ExpungeError("no layer with a LoRA", accepted="a module inside `with_lora`")
        self._scales = {name: dict(layer.scaling) for name, layer in self._layers.items()}
        self._left = dict.fromkeys(self._layers, 1.0)

    def set(self, m: Tensor) -> None:
        masked = dict(zip(self._names, m.tolist(), strict=True))
        for name, layer in self._layers.items():
            self._left[name] = max(1 - masked.get(name, 0.0), _LEAST)
            for adapter, scale in self._scales[name].items():
                layer.scaling[adapter] = scale * self._left[name]

    def step(self, number: int) -> float:
        training = self._training
        loss = training.loss(number)
        training.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(training.params.values(), self._clip)
        training.optimizer.step()
        return float(loss.detach())

    def gradient(self, loss: Tensor) -> Tensor:
        ups = {name: [part.weight for part in layer.lora_B.values()] for name, layer in self._layers.items()}
        flat = [up for each in ups.values() for up in each]
        grads = iter(torch.autograd.grad(loss, flat, allow_unused=True))
        found = dict.fromkeys(self._names, 0.0)
        for name, each in ups.items():
            dots = [0.0 if grad is None else float((up.detach() * grad).sum())
                    for up, grad in zip(each, grads, strict=False)]
            if name in found:
                found[name] = -sum(dots) / self._left[name]
        return torch.tensor(list(found.values()), dtype=torch.float64)
