"""The command that comes next, printed so that it works as it stands: on the same model, with the same judge."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING, Any

from expunge.errors import install
from expunge.models.source import Source, source_of

if TYPE_CHECKING:
    from expunge.sampling import SamplingSettings

CLIP = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
"""A CLIP of the Hub that can judge, where the user named none."""
_DRAWN = ("steps", "guidance", "height", "width", "negative", "truncate")
_JUDGED = ("clip", "prompts_of", "prompts", "add_templates", "margin", "detector", "second")


def evaluate_next(patch: Path, model: str | Source, world: str, variant: str | None = None, *,
                  attack: Path | None = None, like: SamplingSettings | None = None) -> list[str]:
    """"next: expunge evaluate ..." and, for a model that needs something first, what that is.

    Args:
        model, variant: as the user named them; world: the model's.
        attack: folder of attacks to take in; like: their settings, which the evaluation must share.
    """
    words = ["expunge", "evaluate", str(patch), *(["--attack", str(attack)] if attack else []),
             *source_of(model).flags, *(["--variant", variant] if variant else [])]
    settings = {} if like is None else like.model_dump(exclude_defaults=True)
    for name in (*_DRAWN, *_JUDGED):
        flag = f"--{name.replace('_', '-')}"
        if settings.get(name) is True:
            words.append(flag)
        elif name in settings:
            words += [flag, str(settings[name])]
    for name in ("detector", "second"):
        for key, value in flattened(settings.get(f"{name}_options", {})):
            words += [f"--{name}-option", f"{key}={json.dumps(value)}"]
    if world != "open":
        return [f"next: {join(words)}"]
    notes = []
    if not {"clip", "detector"} & settings.keys() and not os.environ.get("EXPUNGE_CLIP"):
        words += ["--clip", CLIP]
        notes.append("a CLIP judges the images; a folder of one will do, too (docs/real-model.md)")
    if find_spec("torchvision") is None:
        words += ["--distance", "ssim"]
        notes.append(f"for LPIPS, the default distance, first: {install('lpips')}")
    return [f"next: {join(words)}", *(f"  {note}" for note in notes)]


def flattened(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Every value inside nested mappings under its dotted key."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value
