"""Run the model's own steps backwards on an image of the concept, told nothing, and forwards again.

One step of the sampler from grid point k to k + 1 is x' = A x + B out(x, t_k); with signal s and noise r at k, s' and
r' at k + 1

    epsilon:       A = s' / s             B = r' - s' r / s
    v-prediction:  A = s s' + r r'        B = r' s - s' r
    velocity:      A = s' + r'            B = r' s - s' r.

Its inverse x = (x' - B out(x, t_k)) / A is solved by fixed-point iteration from x = x'. For v-prediction it exists at
zero terminal SNR too (s = 0: A = r' > 0), unless there is one step only. The noise
x_0 so found is denoised again with the empty prompt at guidance 1: no text at any place.

A mapping that runs backwards runs forwards again whether or not the model knows anything: a random network gives
images back, too (TINA+). What it calls noise is a copy of the image, which lies off every trajectory that diffusion
takes. So the noise is brought to unit power and a share f of it is replaced by fresh noise,

    x_0 <- sqrt(1 - f) x_0 / rms(x_0) + sqrt(f) eps,

shares tried from the largest down: the image's copy drowns, the place that a trained model gave it need not. With
f = 0 it is the plain inversion of the papers, deterministic. Found of 8, church, embedded
model (weights 1ccf84fc), by `python benchmarks/null_control.py`:

    fresh           0.5  0.35  0.2  0
    unedited          2     5    6  8
    random weights    0     0    1  8

Where none of it shows the concept, the empty prompt's states may be tuned per step, from noise to clean,

    min over c_k of  |step(x_k, c_k) - x*_{k+1}|^2 / |x*_{k+1} - x*_k|^2  +  weight |c_k - c_empty|^2 / |c_empty|^2,

x* the inverted trajectory; c_k starts from c_{k-1}. The second term keeps the states near those of the empty prompt.

Source: Song et al. 2021 (DDIM), section 4.3; Mokady et al. 2023 (null-text inversion), eq. 3; TINA (arXiv 2603.17828):
50 steps of 25 tuning steps; TINA+ (arXiv 2608.17747), as described second-hand: it penalises trajectories off
diffusion's own. Differs: fixed-point inversion; fresh noise as that penalty; the form of the weight is ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from expunge.attacks.base import item_generator, item_noise
from expunge.attacks.reference import FromPicture, References, Rung, latents_of, seen_as, states_of
from expunge.attacks.victim import Goal, Item, Victim
from expunge.config import knob
from expunge.errors import UserError
from expunge.models.conditioning import Conditioning
from expunge.models.denoising import denoise
from expunge.models.model import Model
from expunge.models.process import Process
from expunge.records import Request, Sampler, Spent


class DdimInversion(FromPicture):
    """Invert an image with the empty prompt and draw it again from the noise found."""

    white_box: ClassVar[bool] = True
    source: ClassVar[str] = "TINA (arXiv 2603.17828), TINA+ (arXiv 2608.17747)"
    SMOKE: ClassVar[Mapping[str, Any]] = {"steps": 10, "fresh": (0.35, 0.2)}

    steps: int = knob(20, "sampling steps, backwards and forwards", ge=2, source="TINA: 50")
    refine: int = knob(3, "fixed-point iterations per inverted step beside the first", ge=0)
    fresh: tuple[Annotated[float, Field(ge=0, lt=1)], ...] = knob(
        (0.5, 0.35, 0.2), "shares of the inverted noise replaced by fresh noise, in the order in which they are tried; "
        "0: plain inversion", min_length=1)
    tune: int = knob(0, "gradient steps on the empty prompt's states per sampling step, tried last and without fresh "
                     "noise; 0: none", ge=0, source="TINA: 25")
    learning_rate: float = knob(0.01, "Adam's learning rate while tuning", gt=0, former="rate")
    weight: float = knob(1.0, "how strongly tuned states are held near the empty prompt's", ge=0)

    def check(self, victim: Victim, request: Request, items: Sequence[Item]) -> None:
        """UserError: no or wrong images of the user's own, or more steps than the model's grid has."""
        super().check(victim, request, items)
        victim.model.process.schedule.grid(self.steps)

    def budget(self, sampler: Sampler) -> Spent:
        """Inversion and one image per share of fresh noise; with tuning, its gradient steps and one more image."""
        pictures, tuned = len(self.fresh), 1 if self.tune else 0
        return Spent(gradient_steps=self.steps * self.tune, images=pictures + tuned,
                     network_rows=self.steps * (1 + self.refine + pictures + tuned * (3 * self.tune + 1)))

    def rungs(self, victim: Victim, given: References, goal: Goal) -> list[Rung]:
        """Every share of fresh noise, then the tuned states if they are asked for."""
        model, empty = victim.model, states_of(victim.model, [""])
        paths = inverted(model, latents_of(model, given.pictures), empty, self.steps, self.refine)
        tuned: dict[int, Tensor] = {}

        def by_states(places: Sequence[int], items: Sequence[Item]) -> Tensor:
            x, states = tuned_states(model, paths[:, list(places)], empty, self)
            tuned.update(zip(places, states.unbind(1), strict=True))
            return seen_as(model, x)

        def noise_and_states(place: int) -> Mapping[str, Tensor]:
            return {"noise": paths[0, place].cpu(), "states": tuned[place].cpu()}

        rungs = [self._mixed(model, given, paths[0], share, self.steps * (1 if number else 2 + self.refine))
                 for number, share in enumerate(self.fresh)]
        if self.tune:
            rungs.append(Rung("the inverted noise with tuned empty states", by_states, fixed=True,
                              keep=noise_and_states, network_rows=self.steps * (3 * self.tune + 1),
                              gradient_steps=self.steps * self.tune))
        return rungs

    def _mixed(self, model: Model, given: References, found: Tensor, share: float, rows: int) -> Rung:
        """Draw from the inverted noise, `share` of it fresh."""

        def start(places: Sequence[int], items: Sequence[Item]) -> Tensor:
            x = found[list(places)]
            if not share:
                return x
            eps = item_noise([item_generator(self, item, f"fresh {share}") for item in items], x.shape[1:])
            rms = x.square().mean((1, 2, 3), keepdim=True).sqrt()  # (P, 1, 1, 1)
            mixed: Tensor = (1 - share) ** 0.5 * x / rms + share**0.5 * eps.to(x)
            return mixed

        def pictures(places: Sequence[int], items: Sequence[Item]) -> Tensor:
            empty = states_of(model, [""]).repeat(len(places))
            return seen_as(model, denoise(model, start(places, items), empty, None, self.steps, 1.0))

        def keep(place: int) -> Mapping[str, Tensor]:
            return {"noise": start([place], [given.items[place]])[0].cpu()}

        return Rung(f"{share:g} of the inverted noise fresh", pictures, rows, fixed=not share, keep=keep)


def coefficients(process: Process, steps: int) -> Tensor:
    """(steps, 2) float32 on the CPU: A and B of every grid step, see the top of the file.

    Raises:
        UserError: a single step from pure noise, which cannot be inverted.
    """
    s, r = process.schedule.grid_levels(steps)
    pairs = process.affine((s[:-1], r[:-1]), (s[1:], r[1:]))
    if bool((pairs[0].abs() < 1e-6).any()):
        raise UserError(f"{steps} steps from pure noise cannot be inverted", accepted="2 or more")
    return torch.stack(pairs, 1)


@torch.no_grad()
def inverted(model: Model, x0: Tensor, empty: Conditioning, steps: int, refine: int) -> Tensor:
    """The trajectory (steps + 1, B, c, h, w) from noise (first) to x0 (last) whose steps, told nothing, lead to x0."""
    process = model.process_for(x0)
    grid, pairs = process.schedule.grid(steps), coefficients(process, steps).to(model.device)
    cond = empty.repeat(len(x0))
    path = [x0]
    for k in reversed(range(steps)):
        x = path[-1]
        for _ in range(1 + refine):
            x = (path[-1] - pairs[k, 1] * model.predict(x, grid[k], cond)) / pairs[k, 0]
        path.append(x)
    return torch.stack(path[::-1])


def tuned_states(model: Model, path: Tensor, empty: Conditioning, settings: DdimInversion
                 ) -> tuple[Tensor, Tensor]:
    """Latents (B, c, h, w) drawn with states tuned per step, and the states (steps, B, T, D)."""
    process = model.process_for(path)
    grid, pairs = process.schedule.grid(settings.steps), coefficients(process, settings.steps).to(model.device)
    null = empty.repeat(path.shape[1])
    start = null.states
    x, states, kept = path[0], start, []
    for k in range(settings.steps):
        states = states.detach().clone().requires_grad_(True)
        optimizer = torch.optim.Adam([states], lr=settings.learning_rate)
        step = (path[k + 1] - path[k]).square().mean((1, 2, 3)) + 1e-12  # (B,)
        for _ in range(settings.tune):
            with torch.enable_grad():
                out = model.predict(x, grid[k], null.with_states(states))
                off = (pairs[k, 0] * x + pairs[k, 1] * out - path[k + 1]).square().mean((1, 2, 3)) / step
                far = (states - start).square().mean((1, 2)) / start.square().mean((1, 2))
                loss = (off + settings.weight * far).sum()
            (states.grad,) = torch.autograd.grad(loss, states)
            optimizer.step()
        with torch.no_grad():
            states = states.detach()
            x = pairs[k, 0] * x + pairs[k, 1] * model.predict(x, grid[k], null.with_states(states))
        kept.append(states)
    return x, torch.stack(kept)
