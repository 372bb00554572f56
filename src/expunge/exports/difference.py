"""Full differences as A1111 and ComfyUI add them to weights: `.diff`, `.diff_b` of biases, `.w_norm`, `.b_norm`.

What they carry is exact but for the number type. Layers of fused projections are in their own rows of the whole tensor,
with zeros elsewhere.

Source: ComfyUI comfy/lora.py; AUTOMATIC1111/stable-diffusion-webui extensions-builtin/Lora/network_full.py and
network_norm.py. Differs: none.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from expunge.exports.base import Base, Change, changes
from expunge.exports.headers import about, of_kohya
from expunge.exports.spelling import SPELLINGS, module_at, original, totals
from expunge.exports.tensor_file import write_whole
from expunge.exports.writing import Job, Written, check_finite, check_survives, refuse_or_leave, words
from expunge.models.original import Place

_NORMS = {"weight": "w_norm", "bias": "b_norm"}
_LAYERS = {"weight": "diff", "bias": "diff_b"}
_NOTE = "a difference acts by its strength, as a LoRA does: at 0 the edit is off"


def write_kohya(job: Job, path: Path) -> Written:
    """By kohya's names, for A1111 and Forge. Raises: as `_write`."""
    return _write(job, path, "kohya")


def write_comfy(job: Job, path: Path) -> Written:
    """By the names that ComfyUI gives the weights of a model that it has loaded. Raises: as `_write`."""
    return _write(job, path, "comfy")


def _write(job: Job, path: Path, dialect: str) -> Written:
    """Write the file.

    Raises:
        UserError: weights that the format cannot carry, without leave to drop them; a family without a map.
        ModelError: a difference that the number type does not hold.
    """
    base, tensors = job.base, dict[str, Tensor]()
    tally = refuse_or_leave(job, lambda name: _why_not(base, name))
    rows = totals(base, SPELLINGS[dialect])
    for change in changes(job.patch, base):
        if change.name in tally.left:
            continue
        place, end = _place(base, change.name, dialect)
        key, cast = f"{place.key}.{end}", change.delta.to(job.dtype)
        check_finite(change.name, cast)
        if place.nth is not None and key not in tensors:
            tensors[key] = torch.zeros(rows[place.key], *cast.shape[1:], dtype=job.dtype)
        tensors.setdefault(key, torch.empty_like(cast))
        place.put(tensors[key], cast)
        counts = int((change.after != change.before.float()).sum()), int((cast != 0).sum())
        tally.add(change, cast.double(), (counts[0], min(counts)), key=key)
    check_survives(tally.entries, job.dtype)
    header = about(base, job.patch, out=job.out, title=job.title, adapter="lora", spectrum="whole difference")
    write_whole(path, tensors, header | of_kohya(base, tensors, job.out), kohya=True)

    def expected(change: Change) -> Tensor:
        return (change.before.double() + change.delta.to(job.dtype).double()).float()

    return tally.written(expected, words(job.dtype), (_NOTE,))


def _place(base: Base, name: str, dialect: str) -> tuple[Place, str]:
    """What the file calls the layer of a weight, and how the name ends."""
    component, _, path = name.partition("/")
    layer, _, end = path.rpartition(".")
    module = module_at(base, component, layer)
    ends = _LAYERS if isinstance(module, nn.Linear | nn.Conv2d) else _NORMS
    return SPELLINGS[dialect](base, component, layer), ends[end]


def _why_not(base: Base, name: str) -> str:
    """Why no difference carries the weight of this full name; "" where one does."""
    component, _, path = name.partition("/")
    layer, _, end = path.rpartition(".")
    module = module_at(base, component, layer)
    if end not in _LAYERS or module is None:
        return "no weight or bias of a layer"
    if isinstance(module, nn.Embedding):
        return "an embedding"
    if component == base.network and original(base, layer).key.endswith(".scale"):
        return "a norm of queries or keys, which no program adds a difference to"
    return ""

