"""What must stay, among all the models that have forgotten: EraseDiff's bilevel problem, by its first-order step.

    min_theta L_keep(theta)   subject to   theta in argmin L_erase

is turned into one problem by the value function q(theta) = L_erase(theta) - L_erase(phi), where phi is what K steps of
gradient descent on L_erase make of theta. With phi held constant, grad q = grad L_erase(theta), and a step goes along

    grad L_keep + lambda grad q.

The value L_erase(phi) has no gradient, so the K steps decide nothing and are not made here.

Source: Wu et al. 2024 (EraseDiff, arXiv 2401.05779), algorithm 1, after Liu et al. 2022 (BOME);
erasediff_nsfw.py@5250096. Differs: no inner steps (the published script makes them, restores theta, and subtracts their
mean loss as a constant; what they leave behind is Adam's moments, and the updates of every repetition but the last are
lost).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from torch import Tensor

from expunge.config import knob
from expunge.train import Losses
from expunge.unlearn.needs import Need
from expunge.unlearn.subspace import inner
from expunge.unlearn.update import Descent, Stateless, StepLosses, gradients


class Bilevel(Stateless):
    """The keep's gradient plus lambda times the erase loss's.

        constant:  lambda = weight
        descent:   lambda = max(0, eta - <grad L_keep, grad q> / |grad q|^2)
        cosine:    lambda = max(0, eta - cos(grad L_keep, grad q))

    with gradients of the whole scope as one vector. Under "descent" the step has an inner product of at least
    eta |grad q|^2 with grad q, so that every small step lowers q.

    Source: constant: erasediff_nsfw.py; descent: BOME, and SISS's version of EraseDiff (eta 0.01); cosine: EraseDiff's
        DDPM code (eta 0.1).
    """

    kind: Literal["bilevel"] = "bilevel"
    within: ClassVar[tuple[str, ...]] = ("masked", "refresh", "projected", "lookahead")
    rule: Literal["constant", "descent", "cosine"] = knob("constant", "How lambda is found", source="erasediff_nsfw.py")
    weight: float = knob(1.0, "Lambda, where it is constant", gt=0.0, source="EraseDiff: 1.0 in its scripts, else 0.1")
    eta: float = knob(0.1, "How fast the erase loss must fall, where lambda is found", gt=0.0, source="EraseDiff, BOME")
    max_grad_norm: float | None = knob(None, "Largest L2 norm of the whole gradient; none leaves it alone", gt=0.0,
                                       former="clip")

    @property
    def needs(self) -> tuple[Need, ...]:
        """Both losses in one step."""
        return ("keep beside",)

    def step(self, losses: StepLosses, descent: Descent) -> Losses:
        """Returns both losses and lambda."""
        params = descent.params
        of_erase, q = gradients(losses["erase"], params)
        of_keep, kept = gradients(losses["keep"], params)
        factor = self.factor(kept, q)
        for p, mine, other in zip(params.values(), kept, q, strict=True):
            p.grad = mine + factor * other
        return {"erase": of_erase, "keep": of_keep, **descent(self.max_grad_norm), "lambda": factor}

    def factor(self, kept: Sequence[Tensor], q: Sequence[Tensor]) -> float:
        """Lambda, for the gradients of both losses by tensor."""
        if self.rule == "constant":
            return self.weight
        along = inner(kept, q)
        size = float(inner(q, q) if self.rule == "descent" else (inner(q, q) * inner(kept, kept)).sqrt())
        return max(0.0, self.eta - (float(along) / size if size > 0.0 else 0.0))  # a gradient of zero is at no angle
