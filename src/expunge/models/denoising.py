"""Samplers and their guidance, as functions over any model.

Under classifier-free guidance with scale g the output is

    out = out_u + g (out_c - out_u),

out_u for what the model is told in place of the prompt, out_c for the prompt: two rows of the network for each image.
g = 1 is no guidance, and one row. A distilled model is told g as a number, and takes one row at any g.

From levels (s, r) to (s', r') a stochastic sampler goes by

    x' = s' x0 + sqrt(r'^2 - sigma^2) eps + sigma z,     sigma = eta r' sqrt(1 - (s r')^2 / (s' r)^2), at most r',

z standard normal: eta 0 is the deterministic sampler, eta 1 DDPM's, and above it more noise than a model was trained
for.

Source: Ho and Salimans 2021 (classifier-free guidance); Meng et al. 2023 (distilled guidance); Song et al. 2021 (DDIM),
eq. 12 and 16. Differs: sigma is held at r'; schedules of any family.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from expunge.errors import UserError
from expunge.models.base import Guidance
from expunge.models.conditioning import Conditioning
from expunge.models.model import Model


def passes(guidance: float) -> int:
    """Most rows of a network for each image and step: those of a model that is guided without a classifier."""
    return 1 if guidance == 1 else 2


def against(model: Model, guidance: float, negative: str = "", *, truncate: bool = False) -> Conditioning | None:
    """One row: what guidance of this scale goes away from; None where a single pass does."""
    if passes_of(model.denoiser.guided, guidance) == 1:
        return None
    return model.unconditional(negative, truncate=truncate)


def passes_of(guided: Guidance, guidance: float) -> int:
    """Rows of the network for each image and step of a model that is guided so."""
    return passes(guidance) if guided == "classifier-free" else 1


def network_conditioning(model: Model, cond: Conditioning, uncond: Conditioning | None, guidance: float
                         ) -> Conditioning:
    """What the network is told in one pass: `cond` (B rows), with the scale, or behind the rows that it goes away from.

    Args:
        uncond: B rows or one row for all, not looked at where a single pass does.

    Raises:
        UserError: a scale that needs `uncond`, without it, or a model that takes no guidance.
    """
    kind = model.denoiser.guided
    if kind == "none" and guidance != 1:
        raise UserError(f"guidance {guidance} of {model.name}", accepted="guidance 1: the model takes none")
    if kind == "embedded":
        scale = torch.full((len(cond),), float(guidance), device=cond.device)
        return replace(cond, rows={**cond.rows, "guidance": scale})
    if guidance == 1:
        return cond
    if uncond is None:
        raise UserError(f"guidance {guidance} without unconditional states", accepted="guidance 1, or `uncond`")
    return Conditioning.cat([uncond if len(uncond) == len(cond) else uncond.repeat(len(cond)), cond])


def guided(model: Model, x: Tensor, t: Tensor, both: Conditioning, guidance: float) -> Tensor:
    """The guided output, float32 (B, c, h, w); differentiable.

    Args:
        x: (B, c, h, w) at time `t`, (B,) or a single time.
        both: what `network_conditioning` gives.
    """
    return joined(*branches(model, x, t, both), guidance)


def branches(model: Model, x: Tensor, t: Tensor, both: Conditioning) -> tuple[Tensor | None, Tensor]:
    """out_u, None where a single pass does, and out_c; as `guided`."""
    if len(both) == len(x):
        return None, model.predict(x, t, both)
    out_u, out_c = model.predict(torch.cat([x, x]), t if t.dim() == 0 else torch.cat([t, t]), both).chunk(2)
    return out_u, out_c


def joined(out_u: Tensor | None, out_c: Tensor, guidance: float) -> Tensor:
    """The guided output of both branches."""
    return out_c if out_u is None else out_u + guidance * (out_c - out_u)


@torch.no_grad()
def denoise(model: Model, x_t: Tensor, cond: Conditioning, uncond: Conditioning | None, steps: int, guidance: float, *,
            start: int = 0, stop: int | None = None) -> Tensor:
    """The deterministic sampler over grid points start..stop-1, no gradient; returns x at grid point `stop`.

    Args:
        x_t: float32 (B, c, h, w) at the noise level of grid point `start`.
        cond, uncond: as in `network_conditioning`.
        stop: k gives exactly the noise level of `process.schedule.grid(steps)[k]`; None or `steps` the clean latent.

    Raises:
        UserError: `start` and `stop` out of order or off the grid, or as `network_conditioning`.
    """
    process, stop = model.process_for(x_t), steps if stop is None else stop
    if not 0 <= start <= stop <= steps:
        raise UserError(f"denoising from grid point {start} to {stop}", accepted=f"0 <= start <= stop <= {steps}")
    grid, x = process.schedule.grid(steps), x_t.to(model.device)
    both = network_conditioning(model, cond, uncond, guidance)
    for k in range(start, stop):
        x = stepped(model, guided(model, x, grid[k], both, guidance), x, steps, k)
    return x


@torch.no_grad()
def stepped(model: Model, out: Tensor, x: Tensor, steps: int, k: int, eta: float = 0.0, z: Tensor | None = None
            ) -> Tensor:
    """A sampler's step from grid point k to k + 1, given the network's output; float32 (B, c, h, w).

    Args:
        out, x: float32 (B, c, h, w), the guided output and the latents at the noise level of grid point k.
        steps: points of the grid.
        eta: how much noise is put back in. z: that noise before its factor, (B, c, h, w); None: none is.
    """
    process = model.process_for(x)
    s, r = (level.to(model.device) for level in process.schedule.grid_levels(steps))
    here, there = (s[k], r[k]), (s[k + 1], r[k + 1])
    if z is None:
        return process.step(out, x, here, there)
    x0, eps = process.read(out, x, *here)
    sigma = sigma_of(eta, here, there)
    return there[0] * x0 + (there[1] ** 2 - sigma ** 2).clamp(min=0).sqrt() * eps + sigma * z


def sigma_of(eta: float, here: tuple[Tensor, Tensor], there: tuple[Tensor, Tensor]) -> Tensor:
    """sigma above, from levels `here` to levels `there`, (s, r) each; between 0 and r'."""
    (s, r), (s1, r1) = here, there
    left = (1 - (s * r1) ** 2 / (s1 * r) ** 2).clamp(min=0.0).sqrt()
    return (eta * r1 * left).minimum(r1)
