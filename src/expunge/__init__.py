"""Take a concept out of a text-to-image diffusion model, and measure how gone it is.

    import expunge

    model = expunge.load("embedded")
    patch = expunge.erase(model, "church")
    evaluation = expunge.evaluate(model, patch)

Every public name is imported on first use, so that `import expunge` costs nothing that is not needed.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "load": "expunge.models.store:load",
    "erase": "expunge.unlearn.erase:erase",
    "plan": "expunge.unlearn.erase:plan",
    "evaluate": "expunge.evaluate:evaluate",
    "sample": "expunge.models.sample:draw",
    "applied": "expunge.models.store:applied",
    "merge": "expunge.models.store:merge",
    "write_report": "expunge.report:write_report",
    "Patch": "expunge.models.store:Patch",
    "Pictures": "expunge.models.cache:Pictures",
    "EvaluateSettings": "expunge.evaluate:EvaluateSettings",
    "Evaluation": "expunge.records:Evaluation",
    "Prompt": "expunge.records:Prompt",
    "Request": "expunge.records:Request",
    "Sampler": "expunge.records:Sampler",
    "Score": "expunge.records:Score",
    "ExpungeError": "expunge.errors:ExpungeError",
    "UserError": "expunge.errors:UserError",
}
"""Public name -> where it lives."""

__all__ = ["__version__", *_PUBLIC]  # noqa: PLE0604 (made from the table)


class _Package(ModuleType):
    """Keeps `expunge.evaluate` the function also after its module, which has the same name, was imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _PUBLIC and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'expunge' has no attribute {name!r}; it has {', '.join(_PUBLIC)}")
    module, _, attribute = _PUBLIC[name].partition(":")
    value = getattr(importlib.import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
