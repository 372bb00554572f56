"""What a student begins with: the edit of a method in closed form, solved in a second, on which training goes on.

The teacher stays the original. All wordings of a concept's name go by the closed form, with little change to anything
else, so that gradient steps need not travel that far.

Source: TRCE (arXiv 2503.07389), whose first stage is a closed form. Differs: any closed form, any training after.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import BeforeValidator
from torch import Tensor
from torch.nn import Parameter

from expunge.errors import ExpungeError, UserError
from expunge.models.model import Model
from expunge.models.patch import A, B
from expunge.records import Request
from expunge.registry import METHODS
from expunge.unlearn.closed_form.method import ClosedForm

log = logging.getLogger(__name__)

HELD = 1e-4
"""Share of a start's squared change that a LoRA may lack without a word."""


def _by_name(value: Any) -> Any:
    """A registered method's settings, where its name stands in their place."""
    if not isinstance(value, str):
        return value
    try:
        method = METHODS.get(value)
    except ExpungeError as error:
        raise ValueError(str(error)) from error
    if not isinstance(method, ClosedForm):
        raise ValueError(f"{value!r} trains (a start is a method in closed form, such as uce)")
    return method


Start = Annotated[ClosedForm, BeforeValidator(_by_name)]
"""Settings of a closed form, or the name of a registered one."""


def check_start(start: ClosedForm, model: Model, request: Request, trained: Collection[str]) -> None:
    """Whether a student whose parameters of these full names train can begin with it.

    Raises:
        UserError: it changes what does not train, or as `ClosedForm.check`.
    """
    aside = [name for name in start.check(model, request) if name not in trained]
    if aside:
        raise UserError(f"a start with {start.name}, which changes {aside[0]!r}, where that does not train",
                        accepted="a scope that holds what the start changes",
                        remedy="a wider --scope, such as xattn or unet, or no start")


@dataclass(frozen=True)
class Beginning:
    """A closed form's edit of a model.

    Attributes:
        weights, before: what it makes of weights, and what these were, by full name.
    """

    weights: Mapping[str, Tensor]
    before: Mapping[str, Tensor]

    @classmethod
    def made(cls, start: ClosedForm, model: Model, request: Request, seed: int) -> Beginning:
        """Solved for on the model as it is, which is not touched."""
        edit, mine = start(model, request, seed=seed), model.editable()
        before = {name: mine[name].detach().clone() for name in edit.weights}
        return cls({name: edit.value(name, weight) for name, weight in before.items()}, before)

    @torch.no_grad()
    def put_into(self, params: Mapping[str, Parameter]) -> None:
        """Into the weights that train, or, as far as its rank holds it, into a LoRA; what it does not hold is told.

        Args:
            params: what trains, by full name; a LoRA's factors by their layer's.
        """
        whole = lost = 0.0
        for name, weight in self.weights.items():
            if name in params:
                params[name].copy_(weight)
                continue
            down, up = (params[name.removesuffix(".weight") + factor] for factor in (A, B))
            U, S, Vh = torch.linalg.svd(weight.float() - self.before[name].float(), full_matrices=False)
            rank = min(len(down), int((1e-6 * S[0] < S).sum()))
            root = S[:rank].sqrt()
            up[:, :rank] = U[:, :rank] * root
            down[:rank] = root[:, None] * Vh[:rank]
            whole, lost = whole + float(S.square().sum()), lost + float(S[rank:].square().sum())
        if lost > HELD * whole:
            log.warning("the LoRA's rank holds %.0f%% of what the start changes", 100 * (1 - (lost / whole) ** 0.5))


def joined(first: Mapping[str, Sequence[str]], second: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Texts by use, of both, each once."""
    return {use: tuple(dict.fromkeys((*first.get(use, ()), *second.get(use, ())))) for use in {**first, **second}}
