"""The same solution for the layer that the pooled text state enters by.

Families beside Stable Diffusion 1 and 2 tell the denoiser a state of the whole prompt, too. Its first layer is a linear
map W of that state (for Stable Diffusion XL of the size as well, in other columns, which stay). What goes for text
states goes here for one state of each text: the concept's is to give what that of the text in its place gives.

Source: UCE@28c81ed for FLUX, which edits `time_text_embed.text_embedder.linear_1`. Differs: its targets hold the
layer's bias, so that the edited layer adds it twice; here products are solved for. It gives the prompts to keep the
weight of the concepts; here weights are those of the other layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Parameter

from expunge.errors import UserError
from expunge.models.model import Model
from expunge.models.paths import first_layer, pooled_states
from expunge.unlearn.closed_form.reading import Pairs, Plan, Reading, computable
from expunge.unlearn.weights import SOLVED, checked_weights


@dataclass(frozen=True)
class PooledLayer:
    """The layer's whole weight (O, I), and how many of its first columns read the state.

    Attributes:
        name: the weight's full name.
    """

    name: str
    weight: Parameter
    width: int

    @classmethod
    def of(cls, model: Model) -> PooledLayer:
        """The model's. UserError: it has none, or one that cannot be solved for."""
        name = first_layer(model)
        weight = checked_weights(model, "pooled", SOLVED)[name]
        return cls(name, weight, pooled_states(model, [""]).shape[1])

    @property
    def columns(self) -> Tensor:
        """float64 (O, P), those that read the state."""
        return computable(self.weight)[:, :self.width].double()

    def whole(self, columns: Tensor) -> Tensor:
        """The weight (O, I) with other columns in their place."""
        out = computable(self.weight).double().clone()
        out[:, :self.width] = columns
        return out


@torch.no_grad()
def read_pooled(model: Model, plan: Plan, batch: int = 32) -> Reading:
    """One state of each of the plan's texts.

    Raises:
        UserError: a text that is cut off, or one that is read as what takes its place.
    """
    texts = plan.texts
    rows = torch.cat([computable(pooled_states(model, texts[first:first + batch]))
                      for first in range(0, len(texts), batch)])
    at = {text: place for place, text in enumerate(texts)}
    taken = lambda some: rows[[at[text] for text in some]]
    counts: dict[str, int] = {}
    for target, _, _ in plan.pairs:
        counts[target.concept] = counts.get(target.concept, 0) + 1
    for _, text, instead in plan.pairs:
        if torch.equal(rows[at[text]], rows[at[instead]]):
            raise UserError(f"the text encoder reads {text!r} and {instead!r} alike",
                            accepted="an anchor that differs from the concept")
    weights = torch.tensor([1.0 / counts[target.concept] for target, _, _ in plan.pairs], device=rows.device)
    pairs = Pairs(taken(text for _, text, _ in plan.pairs).double(),
                  taken(instead for _, _, instead in plan.pairs).double(), weights.double())
    return Reading(pairs, taken(plan.keep), taken([""]), taken(plan.retained),
                   1 + len(plan.keep) + len(plan.retained))
