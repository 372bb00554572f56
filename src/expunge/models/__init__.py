"""Diffusion models behind one interface: load, draw, choose parameters by scope, put patches on and off.

The only folder (with `tiny.bake`) that knows diffusers. Names are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import Any

_PUBLIC = {
    "Conditioning": "base", "Denoiser": "base", "StableDiffusion": "sd", "load": "store", "Patch": "store",
    "applied": "store", "merge": "store", "load_into_pipeline": "store", "tensors_hash": "store",
    "draw": "sample", "Pictures": "cache",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
