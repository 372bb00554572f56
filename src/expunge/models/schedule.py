"""Which noise levels belong to which times: what training asks for, and what a sampler visits.

A schedule of a diffusers scheduler is that scheduler's own wherever it can be: levels and grids are asked of it, never
made again from a formula.

Source: Ho et al. 2020, Song et al. 2021 (variance preserving); Liu et al. 2023, Esser et al. 2024 (straight flow).
"""

from __future__ import annotations

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import copy
from math import exp
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor
from typing_extensions import Self

from expunge.errors import ModelError, UserError
from expunge.files import text_digest
from expunge.models.hashing import tensors_hash

log = logging.getLogger(__name__)


class Schedule(ABC):
    """Which levels belong to which times, which times training asks for and the sampler visits.

    Attributes:
        last: the largest time, pure noise or nearly.
        description: what the weights were trained for, in words, as far as the schedule decides it.
    """

    last: float
    description: str

    @abstractmethod
    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """s and r at times (B,), float32 (B,) each, on the times' device."""

    @abstractmethod
    def quantile(self, u: Tensor) -> Tensor:
        """Times (B,) below which the shares u (B,), from 0 to below 1, of all training times lie."""

    @abstractmethod
    def draw(self, count: int, generator: Generator) -> Tensor:
        """(count,) times as training draws them, on the CPU."""

    @abstractmethod
    def evenly(self, count: int) -> Tensor:
        """(count,) times that split all training times evenly: the middles of `count` equal shares, rising."""

    @abstractmethod
    def grid(self, steps: int) -> Tensor:
        """(steps,) times at which the sampler asks the network, from noise to clean, on the CPU.

        Raises:
            UserError: more steps than the schedule allows.
        """

    @abstractmethod
    def grid_levels(self, steps: int) -> tuple[Tensor, Tensor]:
        """s and r at every point of the grid and at its clean end, (steps + 1,) each, on the CPU."""

    def sized(self, height: int, width: int) -> Self:
        """The schedule for latents of another height and width; the same, where the size does not matter."""
        return self

    @property
    @abstractmethod
    def identity(self) -> tuple[list[Any], list[Any]]:
        """JSON-able: all that decides levels, and all that decides grids beside them."""


class VariancePreserving(Schedule):
    """s = sqrt(abar_t), r = sqrt(1 - abar_t) at whole times, with the grid of a diffusers scheduler.

    Training times are uniform, as all models of this kind were trained.
    """

    def __init__(self, scheduler: Any) -> None:
        """`scheduler`: a diffusers `DDIMScheduler`, for its levels and the spacing of its grid."""
        self._scheduler, self._abar = scheduler, scheduler.alphas_cumprod
        self._count: int = scheduler.config.num_train_timesteps
        self.last, self.description = float(self._count - 1), _described(scheduler.config)

    @property
    def config(self) -> Mapping[str, Any]:
        """The scheduler's config, from which other schedulers of diffusers can be made."""
        config: Mapping[str, Any] = self._scheduler.config
        return config

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """By the nearest lower whole time."""
        abar = self._abar.to(t.device)[t.long()]
        return abar.sqrt(), (1 - abar).sqrt()

    def quantile(self, u: Tensor) -> Tensor:
        """The whole time below u times their number."""
        return (u * self._count).long().clamp(max=self._count - 1).float()

    def draw(self, count: int, generator: Generator) -> Tensor:
        """Uniform over the whole times."""
        return torch.randint(self._count, (count,), generator=generator).float()

    def evenly(self, count: int) -> Tensor:
        """Exact at any `count`: by whole numbers."""
        return torch.tensor([(2 * place + 1) * self._count // (2 * count) for place in range(count)]).float()

    def grid(self, steps: int) -> Tensor:
        """As the scheduler spaces them."""
        return self._whole(steps).float()

    def grid_levels(self, steps: int) -> tuple[Tensor, Tensor]:
        """The scheduler's, down to its own last level."""
        final = self._scheduler.final_alpha_cumprod.to(self._abar).reshape(1)
        abar = torch.cat([self._abar[self._whole(steps)], final])
        return abar.sqrt(), (1 - abar).sqrt()

    def _whole(self, steps: int) -> Tensor:
        config = self._scheduler.config
        if 1 <= steps <= self._count:
            self._scheduler.set_timesteps(steps)
            if int(self._scheduler.timesteps[0]) < self._count:
                grid: Tensor = self._scheduler.timesteps.clone()
                return grid
        offset = config.steps_offset if config.timestep_spacing == "leading" else 0
        raise UserError(f"{steps} sampling steps", accepted=f"1 to {self._count - offset} for this model")

    @property
    def identity(self) -> tuple[list[Any], list[Any]]:
        """Levels with the last one; spacing and offset."""
        config = self._scheduler.config
        return ([tensors_hash({"abar": self._abar}), float(self._scheduler.final_alpha_cumprod)],
                [config.timestep_spacing, config.steps_offset])


def _described(config: Mapping[str, Any]) -> str:
    """The noise schedule in words, from the scheduler's config: computed levels differ by rounding."""
    betas = config["trained_betas"]
    schedule = (f"{config['beta_schedule']} betas {config['beta_start']} to {config['beta_end']}" if betas is None else
                f"betas of its own ({text_digest(json.dumps([float(beta) for beta in betas]))[:12]})")
    zero = ", zero terminal SNR" if config["rescale_betas_zero_snr"] else ""
    return f"{schedule}, {config['num_train_timesteps']} steps{zero}"


class StraightFlow(Schedule):
    """s = 1 - u, r = u with u = t / last: rectified flow, its times shifted towards noise.

    With v uniform or logit-normal in training and evenly spaced in sampling, u = k v / (1 + (k - 1) v).

    Source: Esser et al. 2024 (Stable Diffusion 3), section 3.1 (logit-normal with mean 0 and spread 1), eq. 23 (shift).
    Differs: training times are shifted as the sampler's are.
    """

    def __init__(self, shift: float = 1.0, *, last: float = 1000.0, logit_normal: bool = True) -> None:
        """`shift`: k, 1 for none."""
        self._shift, self._logit_normal, self.last = shift, logit_normal, last
        how = "logit-normal" if logit_normal else "uniform"
        self.description = f"rectified flow, {how} times shifted by {shift:g}, {last:g} steps"

    def levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """1 - u and u."""
        u = t.float() / self.last
        return 1 - u, u

    def quantile(self, u: Tensor) -> Tensor:
        """Through the normal distribution's own quantile where times are logit-normal."""
        tiny = torch.finfo(torch.float32).eps
        v = torch.special.ndtri(u.float().clamp(tiny, 1 - tiny)).sigmoid() if self._logit_normal else u.float()
        return self._shifted(v) * self.last

    def draw(self, count: int, generator: Generator) -> Tensor:
        """By the quantile of uniform numbers."""
        return self.quantile(torch.rand(count, generator=generator))

    def evenly(self, count: int) -> Tensor:
        """Quantiles of the middles."""
        return self.quantile((torch.arange(count) + 0.5) / count)

    def grid(self, steps: int) -> Tensor:
        """1, 1 - 1/steps, ... 1/steps, shifted."""
        return self._points(steps) * self.last

    def grid_levels(self, steps: int) -> tuple[Tensor, Tensor]:
        """The clean end is exact: s = 1, r = 0."""
        u = torch.cat([self._points(steps), torch.zeros(1)])
        return 1 - u, u

    def _points(self, steps: int) -> Tensor:
        if steps < 1:
            raise UserError(f"{steps} sampling steps", accepted="1 or more")
        return self._shifted(torch.linspace(1, 1 / steps, steps))

    def _shifted(self, v: Tensor) -> Tensor:
        return self._shift * v / (1 + (self._shift - 1) * v)

    @property
    def identity(self) -> tuple[list[Any], list[Any]]:
        """The family and its last time; the shift."""
        return ["straight flow", self.last], [self._shift]


class FlowMatch(StraightFlow):
    """A straight flow on the grid of a diffusers `FlowMatchEulerDiscreteScheduler`.

    The shift is the scheduler's: fixed, or by the number of image tokens n, so that large images get more noise:

        k = e^mu,   mu = a + (b - a) (n - n_a) / (n_b - n_a)      (a, b: base_shift, max_shift, at n_a and n_b tokens)

    Source: diffusers, `calculate_shift` of its FLUX pipeline. Differs: none in what is drawn; training times, which
    diffusers does not draw, are logit-normal and shifted alike.
    """

    def __init__(self, scheduler: Any, patch: int, sides: tuple[int, int], *, evenly: bool) -> None:
        """A grid for latents of these sides, of which a token covers `patch` on a side.

        Args:
            evenly: the pipeline spaces noise levels 1, 1 - 1/steps, ... itself; else the scheduler spaces them.

        Raises:
            ModelError: a scheduler of another kind, or one whose steps are random or run the other way.
        """
        config = scheduler.config
        kind = type(scheduler).__name__
        if kind != "FlowMatchEulerDiscreteScheduler" or config.stochastic_sampling or config.invert_sigmas:
            raise ModelError(f"a {kind} that is no deterministic flow from noise to clean",
                             accepted="FlowMatchEulerDiscreteScheduler without stochastic_sampling and invert_sigmas")
        self._scheduler, self._patch, self._evenly = scheduler, patch, evenly
        self._mu = _mu(config, sides[0] // patch * (sides[1] // patch)) if config.use_dynamic_shifting else None
        super().__init__(float(config.shift) if self._mu is None else _share(config, self._mu),
                         last=float(config.num_train_timesteps))
        if self._mu is not None:  # what weights were trained for does not hang on the size that is drawn
            self.description = f"rectified flow, logit-normal times shifted by size, {self.last:g} steps"

    def sized(self, height: int, width: int) -> Self:
        """The same scheduler with the shift for latents of this size."""
        if self._mu is None:
            return self
        twin = copy(self)
        config = self._scheduler.config
        twin._mu = _mu(config, height // self._patch * (width // self._patch))
        twin._shift = _share(config, twin._mu)
        return twin

    def _points(self, steps: int) -> Tensor:
        if not 1 <= steps <= self.last:
            raise UserError(f"{steps} sampling steps", accepted=f"1 to {self.last:g} for this model")
        given = {} if self._mu is None else {"mu": self._mu}
        even = np.linspace(1, 1 / steps, steps) if self._evenly else None
        self._scheduler.set_timesteps(steps, sigmas=even, **given)
        points: Tensor = self._scheduler.sigmas[:-1].clone()
        return points

    @property
    def identity(self) -> tuple[list[Any], list[Any]]:
        """The family and its last time; all that the scheduler spaces its grid by, for images of the native size."""
        config = {name: value for name, value in self._scheduler.config.items() if not name.startswith("_")}
        return ["straight flow", self.last], [self._shift, self._evenly, json.dumps(config, sort_keys=True)]


def _mu(config: Mapping[str, Any], tokens: int) -> float:
    low, high = config["base_image_seq_len"], config["max_image_seq_len"]
    slope = (config["max_shift"] - config["base_shift"]) / (high - low)
    return float(tokens * slope + config["base_shift"] - slope * low)


def _share(config: Mapping[str, Any], mu: float) -> float:
    """k of u = k v / (1 + (k - 1) v), as the scheduler reads mu."""
    return exp(mu) if config["time_shift_type"] == "exponential" else mu


_SPACED = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas")
"""Of a scheduler's config: grids in noise levels, which DDIM has none of."""


def variance_preserving(scheduler: Any) -> tuple[str, VariancePreserving]:
    """The prediction's name, and the levels of a scheduler of any kind on DDIM's grid.

    Raises:
        ModelError: a scheduler of another family (flow matching, EDM).
    """
    from diffusers import DDIMScheduler  # here alone: settings and `--help` do without

    config, kind = scheduler.config, type(scheduler).__name__
    if "beta_schedule" not in config or "sigma_data" in config:
        raise ModelError(f"a {kind} in place of a noise schedule with betas",
                         accepted="schedulers with beta_schedule (DDIM, PNDM, Euler, DPM-Solver and their kin)")
    spaced = [name for name in _SPACED if config.get(name)]
    if spaced:
        log.warning("the %s asks for %s; images are drawn with DDIM on its %s grid", kind, ", ".join(spaced),
                    config.timestep_spacing)
    # The latents are no images, so they are never clipped, whatever a scheduler's default says. Euler's method always
    # ends at no noise, whatever a key that its config has from another scheduler says.
    ends = {"set_alpha_to_one": True} if kind.startswith("Euler") else {}
    ddim = DDIMScheduler.from_config(config, clip_sample=False, thresholding=False, **ends)
    return str(ddim.config.prediction_type), VariancePreserving(ddim)
