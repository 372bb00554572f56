"""Gradient surgery: the erase gradient loses what would undo the keep.

With g_u the gradient of the erase loss and g_r that of the keep, per tensor or over all of them at once,

    if g_u . g_r < 0:   g_u <- g_u - lambda (g_u . g_r / |g_r|^2) g_r,

so that with lambda 1 the step no longer ascends the keep's loss. One-sided: g_r stays as it is. The length of g_r
cancels, so a keep's weight decides only how much of g_r itself is added.

Source: Yu et al. 2020 (PCGrad), algorithm 1; Wu et al. 2025 (DoCo), concept-preserving gradient; gradient_clip.py
(9214ec4: this projection; 1a36e61: `cosine`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from torch import Tensor

from expunge.config import knob
from expunge.train import Losses
from expunge.unlearn.needs import Need
from expunge.unlearn.subspace import Block, Rule, norm, spared
from expunge.unlearn.update import Descent, Stateless, StepLosses, gradients


class Surgery(Stateless):
    """Project the erase gradient, add the keep's, clip if asked, step.

    Differs: the published code steps on the projected erase gradient alone, so that nothing pulls back what has already
    been damaged (`add_keep` false).
    """

    kind: Literal["surgery"] = "surgery"
    within: ClassVar[tuple[str, ...]] = ("masked", "dual", "refresh", "projected", "lookahead")
    block: Block = knob("tensor", "What conflicts and is projected: each tensor by itself, or all as one vector",
                        source="DoCo: tensor; Ko et al. 2024 (RGD): global")
    strength: float = knob(1.0, "Share of the conflicting part that is taken out (lambda)", ge=0.0, le=1.0,
                           source="DoCo: 1 for styles, 0.5 for objects and nudity, later 1")
    add_keep: bool = knob(True, "Add the keep's gradient, with the keep's weight", source="DoCo: false")
    rule: Rule = knob("projection", "projection, or the release's cosine, which forgets the length of g_u: short "
                      "gradients are overshot until they descend the keep instead")
    clip_each: float | None = knob(None, "Largest L2 norm of each of the two gradients before surgery; none leaves "
                                   "them alone", gt=0.0, source="DoCo: none until 2024-11-20, 1 after")
    max_grad_norm: float | None = knob(None, "Largest L2 norm of the whole gradient; none leaves it alone", gt=0.0,
                                       former="clip")

    @property
    def needs(self) -> tuple[Need, ...]:
        """A keep whose gradient is there to be spared."""
        return ("keep beside",)

    def step(self, losses: StepLosses, descent: Descent) -> Losses:
        """One backward per loss, surgery between erase and keep, then the descent."""
        params = descent.params
        of_erase, g_u = gradients(losses["erase"], params)
        of_keep, g_r = gradients(losses["keep"], params)
        if self.clip_each is not None:
            g_u, g_r = (_clipped(gradient, self.clip_each) for gradient in (g_u, g_r))
        for p, u, r in zip(params.values(), spared(g_u, g_r, self.strength, self.block, self.rule), g_r, strict=True):
            p.grad = u + r if self.add_keep else u
        return {"erase": of_erase, "keep": of_keep, **descent(self.max_grad_norm)}


def _clipped(gradient: Sequence[Tensor], most: float) -> list[Tensor]:
    scale = min(1.0, most / max(float(norm(gradient)), 1e-30))
    return [g * scale for g in gradient]
