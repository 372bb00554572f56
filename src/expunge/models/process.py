"""How a family adds noise, and what its network's output means: signal and noise levels, times, parametrisations.

With signal s and noise level r at a time t,

    x_t = s x0 + r eps.

Time runs from 0, clean, to `last`, noise, in the units in which the network takes it: 0 to 999 for Stable Diffusion, 0
to 1000 for flow models; always float32. At one time, all that a network can be trained to put out is linear in x0 and
eps, so each output says both:

    epsilon        out = eps               x0 = (x_t - r out) / s     eps = out
    v_prediction   out = s eps - r x0      x0 = s x_t - r out         eps = s out + r x_t     (s^2 + r^2 = 1)
    velocity       out = eps - x0          x0 = x_t - r out           eps = x_t + s out       (s + r = 1)

A step of the deterministic sampler goes from levels (s, r) to (s', r') by

    x' = s' x0 + r' eps,

which is DDIM with eta 0 for the first two and Euler's method on the flow for the third. Nothing is clamped: latents are
no pictures. x_t, x0, eps and outputs are float32 (B, c, h, w), t float32 (B,).

Source: Ho et al. 2020 (epsilon); Salimans and Ho 2022, appendix D (v); Song et al. 2021 (DDIM), eq. 12; Liu et al.
2023, Esser et al. 2024 (velocity, shift). Differs: the step goes to the level of the next grid point itself, as
diffusers does wherever the number of steps divides the training grid.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from expunge.errors import ModelError, UserError
from expunge.files import text_digest
from expunge.models.hashing import tensors_hash


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

    @property
    @abstractmethod
    def identity(self) -> tuple[list[Any], list[Any]]:
        """JSON-able: all that decides levels, and all that decides grids beside them."""


class Process(ABC):
    """A schedule and what the network's output means under it; one class for each parametrisation.

    Attributes:
        prediction: the output's name, as schedulers' configs have it.
        schedule: levels and times.
    """

    prediction: ClassVar[str]

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule

    @property
    def description(self) -> str:
        """Prediction and schedule in words: models with one hash and one description take each other's patches."""
        return f"{self.prediction}, {self.schedule.description}"

    @property
    def identity(self) -> list[Any]:
        """JSON-able: all that decides levels, grids and what an output means."""
        levels, grids = self.schedule.identity
        return [*levels, self.prediction, *grids]

    @abstractmethod
    def read(self, out: Tensor, x_t: Tensor, s: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        """x0 and eps that an output at x_t stands for; differentiable. s and r must broadcast against x_t."""

    @abstractmethod
    def native(self, x0: Tensor, eps: Tensor, s: Tensor, r: Tensor) -> Tensor:
        """The output for x0 and eps: what the network is trained to put out."""

    def levels(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """s and r at `t` (B,), (B, 1, 1, 1) each, on `like`'s device."""
        s, r = self.schedule.levels(t.to(like.device))
        return s.view(-1, *[1] * (like.dim() - 1)), r.view(-1, *[1] * (like.dim() - 1))

    def noised(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """x_t = s x0 + r eps."""
        s, r = self.levels(t, x0)
        return s * x0 + r * eps

    def clean(self, out: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The clean latent that the output stands for; differentiable."""
        return self.read(out, x_t, *self.levels(t, x_t))[0]

    def noise_in(self, out: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """The noise that the output stands for; differentiable."""
        return self.read(out, x_t, *self.levels(t, x_t))[1]

    def target(self, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
        """What the network is trained to put out at x_t = s x0 + r eps."""
        return self.native(x0, eps, *self.levels(t, x0))

    def step(self, out: Tensor, x: Tensor, here: tuple[Tensor, Tensor], there: tuple[Tensor, Tensor]) -> Tensor:
        """x' = s' x0 + r' eps, from levels `here` to levels `there`, (s, r) each."""
        x0, eps = self.read(out, x, *here)
        return there[0] * x0 + there[1] * eps

    def affine(self, here: tuple[Tensor, Tensor], there: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """A and B of the step x' = A x + B out, which runs backwards as x = (x' - B out) / A."""
        one, none = torch.ones_like(here[0]), torch.zeros_like(here[0])
        return self.step(none, one, here, there), self.step(one, none, here, there)


class Epsilon(Process):
    """The network predicts the noise."""

    prediction = "epsilon"

    def __init__(self, schedule: Schedule) -> None:
        """ModelError: pure noise at the last time, in which epsilon says nothing about x0."""
        super().__init__(schedule)
        if float(schedule.levels(torch.tensor([schedule.last]))[0]) == 0:
            raise ModelError("a zero-terminal-SNR schedule with epsilon prediction: pure noise has no x0",
                             accepted="v_prediction with such a schedule")

    def read(self, out: Tensor, x_t: Tensor, s: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        """x0 = (x_t - r out) / s."""
        return (x_t - r * out) / s, out

    def native(self, x0: Tensor, eps: Tensor, s: Tensor, r: Tensor) -> Tensor:
        """eps."""
        return eps


class VPrediction(Process):
    """The network predicts v, the pair (x0, eps) turned by 90 degrees."""

    prediction = "v_prediction"

    def read(self, out: Tensor, x_t: Tensor, s: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        """x0 = s x_t - r out, eps = s out + r x_t."""
        return s * x_t - r * out, s * out + r * x_t

    def native(self, x0: Tensor, eps: Tensor, s: Tensor, r: Tensor) -> Tensor:
        """s eps - r x0."""
        return s * eps - r * x0


class Velocity(Process):
    """The network predicts the velocity from clean to noise, with s + r = 1."""

    prediction = "velocity"

    def read(self, out: Tensor, x_t: Tensor, s: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        """x0 = x_t - r out, eps = x_t + s out."""
        return x_t - r * out, x_t + s * out

    def native(self, x0: Tensor, eps: Tensor, s: Tensor, r: Tensor) -> Tensor:
        """eps - x0."""
        return eps - x0


PROCESSES: Mapping[str, type[Process]] = {kind.prediction: kind for kind in (Epsilon, VPrediction, Velocity)}


def process_of(prediction: str, schedule: Schedule) -> Process:
    """The process of that name.

    Raises:
        ModelError: a prediction of another name, or one that the schedule does not allow.
    """
    if prediction not in PROCESSES:
        raise ModelError(f"a model that predicts {prediction!r}", accepted=", ".join(PROCESSES))
    return PROCESSES[prediction](schedule)


class VariancePreserving(Schedule):
    """s = sqrt(abar_t), r = sqrt(1 - abar_t) at whole times, with the grid of a diffusers scheduler.

    Training times are uniform, as all models of this kind were trained.
    """

    def __init__(self, scheduler: Any) -> None:
        """`scheduler`: a diffusers `DDIMScheduler`, for its levels and the spacing of its grid."""
        self._scheduler, self._abar = scheduler, scheduler.alphas_cumprod
        self._count: int = scheduler.config.num_train_timesteps
        self.last, self.description = float(self._count - 1), _described(scheduler.config)

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
