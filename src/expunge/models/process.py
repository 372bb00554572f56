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
no images. x_t, x0, eps and outputs are float32 (B, c, h, w), t float32 (B,).

Source: Ho et al. 2020 (epsilon); Salimans and Ho 2022, appendix D (v); Song et al. 2021 (DDIM), eq. 12; Liu et al.
2023, Esser et al. 2024 (velocity, shift). Differs: the step goes to the level of the next grid point itself, as
diffusers does wherever the number of steps divides the training grid.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from copy import copy
from typing import Any, ClassVar

import torch
from torch import Tensor
from typing_extensions import Self

from expunge.errors import ModelError
from expunge.models.schedule import Schedule


class Process(ABC):
    """A schedule and what the network's output means under it; one class for each parametrisation.

    Attributes:
        prediction: the output's name, as schedulers' configs have it.
        schedule: levels and times.
    """

    prediction: ClassVar[str]

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule

    def sized(self, height: int, width: int) -> Self:
        """The process for latents of this height and width: some schedules shift their times with the size."""
        twin = copy(self)
        twin.schedule = self.schedule.sized(height, width)
        return twin

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
