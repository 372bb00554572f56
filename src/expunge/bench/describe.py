"""What a registered method trains, needs and costs, found out by asking the method itself on the embedded model."""

from __future__ import annotations

from typing import Any

from expunge.errors import ExpungeError
from expunge.models.model import Model
from expunge.records import Request
from expunge.registry import METHODS
from expunge.unlearn.closed_form.method import ClosedForm
from expunge.unlearn.erase import resolve_method, resolve_request
from expunge.unlearn.method import Configured
from expunge.unlearn.needs import check_needs
from expunge.unlearn.recipe import Recipe

EXAMPLE = ("church", "house")
"""Concept and anchor for which cost and needs are told."""
UNKNOWN = "not said: it is a method without settings"


def described(name: str, model: Model) -> dict[str, str]:
    """Words by what they are about, for a registered method.

    Raises:
        UserError: unknown name.
    """
    chosen, request = resolve_method(name, model=model), resolve_request(model, *EXAMPLE)
    return {"does": METHODS.help(name), "trains": _trains(chosen, model), "needs": _needs(chosen, model, request),
            "cost": _cost(chosen), "source": METHODS.source(name) or "not said"}


def _trains(chosen: Any, model: Model) -> str:
    """The scope, and its share of the model's parameters."""
    scope = getattr(chosen, "scope", None)
    if not isinstance(scope, str):
        return UNKNOWN
    mine, whole = (sum(p.numel() for p in model.parameters_in(name).values()) for name in (scope, "all"))
    return f"{scope}: {mine:,} of {whole:,} parameters of {model.name} ({mine / whole:.0%})"


def _needs(chosen: Any, model: Model, request: Request) -> str:
    """Whether it refuses a request without an anchor, or without prompts to keep."""
    if not isinstance(chosen, Configured):
        return UNKNOWN

    def refuses(lacking: Request) -> bool:
        try:
            if isinstance(chosen, Recipe):
                check_needs(chosen, lacking)  # the rest of its `check` reads every prompt
            else:
                chosen.check(model, lacking)
        except ExpungeError:
            return True
        return False

    anchor = "an anchor" if refuses(request.model_copy(update={"anchor": ""})) else "no anchor, but takes one"
    if refuses(request.model_copy(update={"keep": ()})):
        keep = "prompts to keep"
    elif getattr(chosen, "retain", None) is not None:
        keep = "no prompts to keep: it makes some of its own, and takes yours"
    elif isinstance(chosen, Recipe) and chosen.keep is None:
        keep = "no prompts to keep, and makes no use of them"
    else:
        keep = "no prompts to keep, but takes them"
    return f"{anchor}; {keep}; no images"


def _cost(chosen: Any) -> str:
    """Steps at the method's own settings."""
    if isinstance(chosen, Recipe):
        return f"{chosen.steps:,} steps of {chosen.batch:,} samples; `expunge erase --dry-run` measures the time"
    return "no training step: solved in closed form" if isinstance(chosen, ClosedForm) else UNKNOWN
