"""Refresh learning: before a step, unlearn a little; the step then learns again from there.

With g the gradient of a loss L that is given as a closure, F a diagonal Fisher information of what came before, P =
1 / (F + damping), and xi standard normal, the rule "langevin" is

    theta <- theta + gamma d + sqrt(2 gamma noise) P^(1/2) xi,      J times,
    d = P g                                                         norm "none": Langevin ascent, as the paper states it
    d = P g |w| / |P g|                                             norm "tensor": gamma is each tensor's relative step
    d = P g |w| / sqrt(g P g)                                       norm "fisher": sqrt(d (F + damping) d) = |w|

(|w| in the last over all weights: gamma is the relative length of the whole step in the metric, a trust region), and
the rule "released", of the paper's public code,

    theta <- theta + gamma / (1 + damping F) (|w| g / |g| + noise xi)                                        per tensor.

Where there is no Fisher information yet, P is 1. A step takes the place of its gradient and is added in place, so that
there is no second model. What is minimised in the end is about L + sigma |grad L|_P: SAM that keeps its perturbation.

Source: Wang et al. 2024 (refresh learning, ICLR); clrefresh/models/derpp.py. Differs: no copy
of the model; damping, because information of exactly 0 has no inverse; F may be divided by its mean, which is gamma in
other units; the rise of the loss can be capped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import model_validator
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer
from typing_extensions import Self

from expunge.config import Settings, knob
from expunge.continual.fisher import Fisher
from expunge.continual.remembered import Remembered
from expunge.errors import ExpungeError, TrainingError, UserError
from expunge.train import step_generator

Closure = Callable[[], Tensor]
"""One forward; a scalar loss with gradient, the same one however often it is asked for in a step."""

_PRECISE = (torch.float32, torch.float64)


def rise(default: float | None) -> Any:
    """The knob of that name: whoever looks at a loss anyhow can afford a cap, so it has no default for all."""
    return knob(default, "Largest rise of the climbed loss, as a share of it; steps that rise more are halved", gt=0.0)


class Ascents(Settings):
    """When to ascend and how far, whatever it is that is climbed."""

    steps: int = knob(1, "Ascents before a step (J); 0 switches refresh off", ge=0, source="Wang et al. 2024: 1")
    every: int = knob(2, "Steps from one refresh to the next; the first step has one", ge=1,
                      source="Wang et al. 2024: 2, for speed; the released code: 1")
    gamma: float = knob(1e-4, "Size of an ascent: absolute with norm none, else relative to the weights' norm; 0 "
                        "switches refresh off", ge=0.0, source="the released code: 1e-5")
    noise: float = knob(0.0, "Temperature of the noise (langevin), or its size within the step (released)", ge=0.0,
                        source="Wang et al. 2024: 1; the released code: 1e-3")
    rise: float | None = rise(None)
    halvings: int = knob(6, "Halvings after which a step that still rises more is taken back", ge=0)


class Refresh(Ascents):
    """When and how far to unlearn."""

    rule: Literal["langevin", "released"] = knob("langevin", "The paper's formula or the released code's")
    norm: Literal["none", "tensor", "fisher"] = knob("tensor", "What a step's length is measured against")
    damping: float = knob(1.0, "Added to the Fisher information (langevin), or its factor (released)", ge=0.0)
    normalise: bool = knob(True, "Divide the Fisher information by its mean first")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.rule == "released" and self.norm != "tensor":
            raise ValueError(f"rule released measures steps by tensor; got norm {self.norm} (set norm tensor)")
        return self

    @property
    def on(self) -> bool:
        """Whether it does anything."""
        return self.steps > 0 and self.gamma > 0.0

    def due(self, number: int) -> bool:
        """Whether step `number` is refreshed."""
        return self.on and number % self.every == 0


@dataclass(frozen=True)
class Ascent:
    """What an ascent did.

    Attributes:
        relative: lengths of the ascents, noise included, each over the norm of all weights, added up. What is taken
            back counts 0, and leaves rounding behind.
        before: the climbed loss at the first ascent; after: behind the last one, None where no cap asked for it.
        halvings: how often a step was halved.
        fisher: statistics of the Fisher information as it was used; empty without one.
        current: the loss was last asked for at the weights as they are now, so that it need not be asked for again.
    """

    relative: float
    before: float
    after: float | None
    halvings: int
    fisher: Mapping[str, float]
    current: bool


class Refresher:
    """Refresh around any optimiser: `ascend` before its step, or `step` for both.

    Attributes:
        settings, params: float32 or float64, changed in place; seed: with a step's number it decides the noise.
    """

    def __init__(self, settings: Refresh, params: Mapping[str, Tensor], *, seed: int = 0, fisher: Fisher | None = None,
                 buffers: Mapping[str, Tensor] | None = None) -> None:
        """Look whether the parameters can take such small steps.

        Args:
            fisher: of what came before; None: P is 1.
            buffers: what a forward changes besides (running statistics); as it was after an ascent.

        Raises:
            UserError: weights in half precision, or frozen.
            ExpungeError: no Fisher information for a parameter, or none that has an inverse.
        """
        if settings.on:
            _check(params)
        self.settings, self.params, self.seed = settings, params, seed
        self.buffers = dict(buffers or {})
        self.follow(fisher)

    def follow(self, fisher: Fisher | None) -> None:
        """Use this Fisher information from now on.

        Raises:
            ExpungeError: as at the start.
        """
        self.statistics: Mapping[str, float] = {}
        self._metric: dict[str, Tensor] | None = None
        if fisher is None or not self.settings.on:
            return
        if missing := sorted(self.params.keys() - fisher.values.keys()):
            raise ExpungeError(f"no Fisher information for {missing[0]!r}",
                               accepted="all parameters that are refreshed")
        used = Fisher(fisher.kind, fisher.samples, {name: fisher.values[name] for name in self.params})
        used = used.normalised() if self.settings.normalise else used
        self.statistics = used.statistics()
        damping = self.settings.damping
        if self.settings.rule == "released":
            self._metric = {name: 1 + damping * F.to(self.params[name]) for name, F in used.values.items()}
            return
        if damping == 0.0 and self.statistics["zeros"] > 0.0:
            raise ExpungeError(f"information of 0 for {self.statistics['zeros']:.1%} of the weights, and no damping",
                               accepted="damping above 0")
        self._metric = {name: F.to(self.params[name]) + damping for name, F in used.values.items()}

    def ascend(self, number: int, loss: Closure, within: Mapping[str, Tensor] | None = None, *, shared: bool = False
               ) -> Ascent | None:
        """Climb `loss` if step `number` is due; None if it is not.

        Args:
            within: bool masks by name; weights outside stay bit for bit.
            shared: the caller takes a last look at the loss for its own forward (`Remembered`), where there was one;
                buffers stay as that left them.

        Raises:
            TrainingError: a gradient is not finite; nothing has moved in that ascent.
        """
        if not self.settings.due(number):
            return None
        kept = {name: buffer.clone() for name, buffer in self.buffers.items()}

        def as_it_was() -> None:
            with torch.no_grad():
                for name, buffer in self.buffers.items():
                    buffer.copy_(kept[name])

        def asked() -> Tensor:
            as_it_was()
            with torch.enable_grad():
                return loss()

        ascents, value = list[Ascent](), None
        try:
            for j in range(self.settings.steps):
                one, value = self._once(step_generator(self.seed, number, f"refresh/{j}"), asked, within, value)
                ascents.append(one)
        finally:
            if value is None or not shared:
                as_it_was()
        return Ascent(sum(one.relative for one in ascents), ascents[0].before, ascents[-1].after,
                      sum(one.halvings for one in ascents), self.statistics, value is not None)

    def step(self, number: int, loss: Closure, optimizer: Optimizer, climbed: Closure | None = None
             ) -> tuple[Tensor, Ascent | None]:
        """Ascend `climbed` (None: the loss itself) where due, then one step of the optimizer on `loss`.

        Returns:
            The loss that the step saw, without gradient, and what the ascent did.
        """
        own = Remembered(loss)
        refreshed = self.ascend(number, own.look if climbed is None else climbed, shared=climbed is None)
        own.settle(refreshed is not None and refreshed.current)
        optimizer.zero_grad(set_to_none=True)
        value = own()
        value.backward()
        optimizer.step()
        return value.detach(), refreshed

    def _once(self, generator: torch.Generator, loss: Closure, within: Mapping[str, Tensor] | None, value: Tensor | None
              ) -> tuple[Ascent, Tensor | None]:
        """One ascent from where the loss is `value`, and the loss behind it, both with their graphs; None: unknown."""
        before, g = self._gradient(loss() if value is None else value)
        with torch.no_grad():
            scale = self._scale(g, within)
            for name in g:  # one at a time in the place of its gradient: no second copy of the model
                g[name] = self._moved(name, g[name], scale, generator, within)
            length, size = _length(g), _length(self.params)
            if not math.isfinite(length):
                raise TrainingError("an ascent is not finite", accepted="a loss with a finite gradient",
                                    remedy="lower gamma or the noise, or raise the damping")
            for name, w in self.params.items():
                w.add_(g[name])
            share, after, halvings = self._capped(g, before, loss)
        risen = before if share == 0.0 else None if after is None else float(after.detach())
        return Ascent(share * length / max(size, 1e-30), before, risen, halvings, self.statistics,
                      after is not None), after

    def _gradient(self, value: Tensor) -> tuple[float, dict[str, Tensor]]:
        """The loss, and its gradient by name; zeros where it does not reach."""
        grads = torch.autograd.grad(value, list(self.params.values()), allow_unused=True)
        named = zip(self.params.items(), grads, strict=True)
        return float(value.detach()), {name: torch.zeros_like(w) if g is None else g for (name, w), g in named}

    def _scale(self, g: Mapping[str, Tensor], within: Mapping[str, Tensor] | None) -> float:
        """What the norm "fisher" stretches the whole step by; 1 for the others."""
        if self.settings.norm != "fisher":
            return 1.0
        inner = torch.stack([(self._preconditioned(name, slope, within) * slope).double().sum()
                             for name, slope in g.items()]).sum()
        return _length(self.params) / (math.sqrt(float(inner)) + 1e-30)

    def _preconditioned(self, name: str, g: Tensor, within: Mapping[str, Tensor] | None) -> Tensor:
        """P g, within the mask; under the rule "released" g itself."""
        g = g if within is None else g * within[name]
        return g if self._metric is None or self.settings.rule == "released" else g / self._metric[name]

    def _moved(self, name: str, g: Tensor, scale: float, generator: torch.Generator, within: Mapping[str, Tensor] | None
               ) -> Tensor:
        """What is added to the parameter."""
        settings, metric = self.settings, self._metric
        d = self._preconditioned(name, g, within)
        if settings.norm == "tensor":
            d = d * (self.params[name].norm() / (d.norm() + 1e-20))
        noise: Tensor | float = 0.0
        if settings.noise > 0.0:
            noise = torch.randn(g.shape, generator=generator).to(g)
            noise = noise if within is None else noise * within[name]
        if settings.rule == "released":
            step = settings.gamma * (d + settings.noise * noise)
            return step if metric is None else step / metric[name]
        if settings.noise > 0.0:
            spread = noise if metric is None else noise / metric[name].sqrt()
            return settings.gamma * scale * d + math.sqrt(2 * settings.gamma * settings.noise) * spread
        return settings.gamma * scale * d

    def _capped(self, steps: Mapping[str, Tensor], before: float, loss: Closure) -> tuple[float, Tensor | None, int]:
        """Halve the step until the loss rises no more than it may.

        Returns:
            Which share of it is left; the loss there, None where nobody looked or nothing is left; how often halved.
        """
        settings = self.settings
        if settings.rise is None:
            return 1.0, None, 0
        most, share, halvings = before + settings.rise * abs(before), 1.0, 0
        after: Tensor | None = loss()
        while after is None or not float(after.detach()) <= most:  # a loss that is not a number counts as too high
            after = None  # before the next look: one graph at a time
            halvings += 1
            left = 0.0 if halvings > settings.halvings else share / 2
            for name, w in self.params.items():
                w.sub_((share - left) * steps[name])
            if left == 0.0:
                return 0.0, None, halvings - 1
            share, after = left, loss()
        return share, after, halvings


def _check(params: Mapping[str, Tensor]) -> None:
    coarse = sorted({str(p.dtype) for p in params.values() if p.dtype not in _PRECISE})
    if coarse:
        raise UserError(f"refresh on weights in {', '.join(coarse)}: a relative step of 1e-4 is less than their "
                        "rounding, so nothing would move", accepted="float32 or float64",
                        remedy="keep the trained weights in float32 (activations may be coarser)")
    if frozen := [name for name, p in params.items() if not p.requires_grad]:
        raise UserError(f"refresh on a frozen parameter, {frozen[0]!r}", accepted="parameters that take gradients",
                        remedy="leave it out")


def _length(tensors: Mapping[str, Tensor]) -> float:
    return float(get_total_norm([tensor.detach() for tensor in tensors.values()]))
