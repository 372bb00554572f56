"""Which world goes with a model."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from expunge.errors import UserError
from expunge.metrics.base import World
from expunge.registry import WORLDS


def world_of(kind: str, model: str, clip: str = "", prompts: str = "", add_templates: bool = False,
             margin: float | None = None, default_role: str = "", name_in: Sequence[str] = ()) -> World:
    """The world called `kind`, of the model called `model`.

    Args:
        clip: open world: folder or Hub id of the CLIP that judges; prompts: file of prompts by role;
            add_templates: ask templates beside those of the file; margin: least lead of the CLIP judge's answer, None
            means its own; default_role: of prompts in a file without roles; name_in: LANGUAGE=NAME of the concept.

    Raises:
        UserError: unknown world, or settings of the open world for a model with one of its own.
    """
    maker = WORLDS.get(kind)
    options: dict[str, Any] = {"clip": clip, "prompts": prompts, "add_templates": add_templates, "margin": margin,
                               "default_role": default_role, "name_in": tuple(name_in)}
    own = {name: value for name, value in options.items() if value or (name == "margin" and value is not None)}
    if own and not {*own} <= {*inspect.signature(maker).parameters}:
        raise UserError(f"{', '.join(own)} given, but {model} has a world of its own ({kind})",
                        accepted="these settings for models whose world takes them, as the open one does",
                        remedy="leave them out")
    world: World = maker(**own)
    return world
