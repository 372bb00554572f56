"""A text encoder as one file, for ComfyUI's loaders of such (CLIPLoader, DualCLIPLoader, TripleCLIPLoader).

These tell encoders by their keys, so CLIP's have "text_model." in front, whatever this version of transformers does;
T5's are as they are. A projection lies as transformers has it, not transposed.

Source: ComfyUI comfy/sd.py, detect_te_model. Differs: none.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from expunge.errors import UserError
from expunge.exports.base import Base, Change, only_component
from expunge.exports.headers import about
from expunge.exports.tensor_file import write_whole
from expunge.exports.writing import Job, Written, check_finite, whole_values, words
from expunge.models.original import clip

DETECTED = {"clip": "text_model.encoder.layers.0.mlp.fc1.weight",
            "t5": "encoder.block.0.layer.0.SelfAttention.k.weight"}
"""A key that every such file must have to be told for what it is."""


def write(job: Job, path: Path) -> Written:
    """Write the encoder that the patch changes, all of it.

    Raises:
        UserError: the patch changes something else, too, or no text encoder; one without such a file layout.
        ModelError: the number type tells no change apart, or does not hold a value.
    """
    base = job.base
    component = only_component(job.patch, job.component, base)
    if component not in base.texts:
        raise UserError(f"the {component} as a text encoder", accepted=" or ".join(base.texts),
                        remedy="export to a checkpoint, a folder or a LoRA")
    inside = {name for name in job.patch.weights if name.startswith(f"{component}/")}
    tensors: dict[str, Tensor] = {}
    with torch.no_grad():
        for name in base.names(component):
            before = base.weights[name]
            value = (job.patch.value(name, before).float() if name in inside else before).to(job.dtype)
            check_finite(name, value)
            tensors[spelt(base, component, name.partition("/")[2])] = value
    tally = whole_values(job, f"{component}/", lambda name: spelt(base, component, name.partition("/")[2]))
    kind = "t5" if type(base.module(component)).__name__.startswith("T5") else "clip"
    if DETECTED[kind] not in tensors:
        raise UserError(f"a {type(base.module(component)).__name__} as a file for ComfyUI",
                        accepted="CLIP or T5 text encoders", remedy="export to a folder")
    write_whole(path, tensors, about(base, job.patch, out=job.out, title=job.title, adapter="text-encoder"))

    def expected(change: Change) -> Tensor:
        return change.after.to(job.dtype).float()

    return tally.written(expected, words(job.dtype), _notes(base, component, job))


def spelt(base: Base, component: str, name: str) -> str:
    """A tensor's key in the file."""
    return name if type(base.module(component)).__name__.startswith("T5") else clip(name).key


def _notes(base: Base, component: str, job: Job) -> tuple[str, ...]:
    out = ["the edit is undone by loading the stock text encoder in its place"]
    if len(base.texts) > 1:
        others = ", ".join(name for name in base.texts if name != component)
        out.append(f"the other text encoders ({others}) stay as they were")
    layers = getattr(getattr(base.module(component), "config", None), "num_hidden_layers", 0)
    if layers == 23 and base.kind == "StableDiffusionPipeline":
        out.append("Stable Diffusion 2's 24th layer, which nothing reads, is not in diffusers' folders and not here")
    other = {name.partition("/")[0] for name in job.patch.weights} - {component}
    if other:
        out.append(f"the patch also changes the {', '.join(sorted(other))}, which this file does not hold")
    return tuple(out)
