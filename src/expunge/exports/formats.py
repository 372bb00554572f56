"""What an edit can be written as: one entry per format, walked by the contract tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from expunge.errors import UserError
from expunge.exports import checkpoint, difference, encoder, folder, lora
from expunge.exports.writing import Job, Written

Loaded = Literal["model", "lora", "patch"]


@dataclass(frozen=True)
class Format:
    """A form that other programs take.

    Attributes:
        help: one line on what it is and who takes it.
        kind: whether it is one file or a folder.
        write: writes it under a name and says what it wrote.
        dtype: number type where none is named.
        loaded: how `models.store.load` takes it: as the model, as a LoRA on the base, or not but as a patch.
        alone: whether it holds one component, in place of the whole edit.
    """

    help: str
    kind: Literal["file", "folder"]
    write: Callable[[Job, Path], Written]
    dtype: str
    loaded: Loaded
    alone: bool = False


FORMATS: Mapping[str, Format] = {
    "folder": Format("a diffusers folder of the whole model", "folder", folder.write_model, "float16", "model"),
    "component": Format("the folder of the one component that changes, for diffusers", "folder",
                        folder.write_component, "float16", "patch", alone=True),
    "checkpoint": Format("your own single file with the edit in it, for A1111, Forge and ComfyUI", "file",
                         checkpoint.write, "float32", "model"),
    "lora-diffusers": Format("a LoRA for pipe.load_lora_weights", "file", lora.write_diffusers, "float32", "lora"),
    "lora-kohya": Format("a LoRA for A1111, Forge, ComfyUI and kohya's tools", "file", lora.write_kohya, "float32",
                         "lora"),
    "lora-comfy": Format("a LoRA by ComfyUI's own names", "file", lora.write_comfy, "float32", "lora"),
    "diff-kohya": Format("the full difference for A1111 and Forge", "file", difference.write_kohya, "float16", "patch"),
    "diff-comfy": Format("the full difference for ComfyUI", "file", difference.write_comfy, "float16", "patch"),
    "text-encoder": Format("the text encoder as a file for ComfyUI's CLIP loaders", "file", encoder.write, "float16",
                           "patch", alone=True),
}
"""By name."""


def format_of(name: str) -> Format:
    """The format of that name. UserError: there is none."""
    if name not in FORMATS:
        known = "; ".join(f"{one} ({form.help})" for one, form in FORMATS.items())
        raise UserError(f"format {name!r}", accepted=known)
    return FORMATS[name]
