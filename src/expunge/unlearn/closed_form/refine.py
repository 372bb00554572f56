"""Which states a null space should spare: those that the edit would move, and their surroundings.

A null space of everything is empty. SPEED therefore refines the prior: it keeps the states that an edit without any
care would move more than the average, adds copies of them that are shifted where the layers hardly look, and keeps
those copies by the same rule.

Source: Li et al. 2026 (SPEED), section 3.2 (influence-based prior filtering, directed prior augmentation). Differs:
shifts are measured over the outputs of all layers together, not layer by layer (`NullSpace.per_layer` gives that);
noise is in units of the states' own root mean square (CLIP's text states have about 1).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from expunge.config import Settings, knob
from expunge.errors import UserError
from expunge.train import step_generator


class Refine(Settings):
    """How the states to keep are refined."""

    scale: float = knob(1.0, "States that would move less than this are left out; 0 leaves none out",
                        unit="mean shifts", ge=0.0, source="SPEED alpha")
    copies: int = knob(10, "Shifted copies of every state that is kept", ge=0, source="SPEED N_A")
    rank: int = knob(1, "Directions in which copies are shifted: those to which the layers respond least", ge=1,
                     source="SPEED r")

    def __call__(self, kept: Tensor, S: Tensor, G: Tensor, seed: int) -> Tensor:
        """The refined states, float64 (M', D).

        Args:
            kept: float64 (M, D). S: (D, D), an edit W (I + S) without care. G: (D, D), sum W^T W of the layers.

        Raises:
            UserError: `scale` leaves none.
        """
        shift = shifts(kept, S, G)
        chosen = kept[shift >= self.scale * shift.mean()]
        if not len(chosen):
            raise UserError(f"none of {len(kept)} states to keep moves {self.scale:g} mean shifts",
                            accepted=f"a solver.refine.scale of up to {float(shift.max() / shift.mean()):.3g} here")
        if not self.copies:
            return chosen
        quiet = torch.linalg.eigh(G).eigenvectors[:, :self.rank]  # (D, r)
        generator = step_generator(seed, 0, "closed form/copies")
        noise = torch.randn((self.copies * len(chosen), quiet.shape[1]), generator=generator, dtype=torch.float64)
        copies = chosen.repeat(self.copies, 1) + kept.square().mean().sqrt() * noise.to(kept) @ quiet.T
        shift = shifts(copies, S, G)
        return torch.cat([chosen, copies[shift >= self.scale * shift.mean()]])


def shifts(states: Tensor, S: Tensor, G: Tensor) -> Tensor:
    """(M,): |W S p| over all layers, for every state p in `states` (M, D)."""
    moved = states @ S.T
    return ((moved @ G) * moved).sum(1).clamp_min(0).sqrt()


def gram(layers: Mapping[str, Tensor], other: Mapping[str, Tensor] | None = None) -> Tensor:
    """sum W^T V over the layers W (O, D), V the layer of the same name in `other` (W itself if not given)."""
    rest = other if other is not None else layers
    return sum((W.T @ rest[name] for name, W in layers.items()),
               torch.zeros_like(next(iter(layers.values()))[:1].T @ next(iter(layers.values()))[:1]))
