"""Every export is read again before it counts as written: by our own inverse map, and by diffusers where it can.

What is read must be what was meant, weight by weight, and nothing else may have changed.
"""

from __future__ import annotations

from pathlib import Path

import torch

from expunge import __version__
from expunge.errors import ModelError, UserError
from expunge.exports.base import changes
from expunge.exports.incoming import read_edit
from expunge.exports.readers import read_by_diffusers
from expunge.exports.writing import Job, Written, gap
from expunge.models.patch import Patch
from expunge.records.export import ReadBack

_TOLERANCE = 1e-6
"""Of sums that are taken in another order, relative to the largest weight."""
_BY = {"folder": "from_pretrained", "component": "from_pretrained", "checkpoint": "from_single_file",
       "lora-diffusers": "load_lora_weights", "lora-kohya": "load_lora_weights"}
"""Formats that diffusers reads, and how."""


def read_back(job: Job, written: Written, path: Path, to: str) -> tuple[ReadBack, ...]:
    """What reading the file again found.

    Raises:
        ModelError: our own reader, or diffusers, finds other numbers than were meant; the file is not to be used.
    """
    found = [_by_us(job, written, path)]
    if to in _BY:
        found.append(read_by_diffusers(job, written, path, _BY[to]))
    for one in found:
        if one.max_abs is not None and one.max_abs > _TOLERANCE * max(1.0, _largest(job)):
            raise ModelError(f"{one.reader} reads the export otherwise than it was meant: weights differ by up to "
                             f"{one.max_abs:.2g}", accepted="the same numbers",
                             remedy="nothing was kept; please report this")
    return tuple(found)


@torch.no_grad()
def _by_us(job: Job, written: Written, path: Path) -> ReadBack:
    """Our inverse map: the export as an edit of its own of the same base."""
    parts = {name.partition("/")[0] for name in written.names}
    skip = tuple(name for name in ("vae",) if name in job.base.model.denoiser.components)
    found = read_edit(path, job.base, component=job.component or (parts.pop() if len(parts) == 1 else ""), skip=skip)
    edit = Patch(found.tensors, job.patch.card.model_copy(update={
        "kind": found.kind, "scale": 1.0, "tensors": tuple(sorted(found.tensors))}))
    largest, count, names = 0.0, 0, set[str]()
    for change in changes(job.patch, job.base):
        if change.name not in written.names:
            continue
        wanted, names = written.meant(change), names | {change.name}
        inside = change.name in edit.weights
        got = edit.value(change.name, change.before).float() if inside else change.before.float()
        if inside or not _kept(change.before, wanted, job.dtype):
            largest = max(largest, gap(got, wanted))
        count += 1
    if other := [name for name in edit.weights if name not in names]:
        raise ModelError(f"the export changes {other[0]!r}, which the patch does not", accepted="the patch's changes",
                         remedy="nothing was kept; please report this")
    return ReadBack(reader=f"expunge {__version__}", tensors=count, max_abs=largest)


def _kept(before: torch.Tensor, wanted: torch.Tensor, number: torch.dtype) -> bool:
    """Whether a weight that our reader takes for the base's was meant to be so, in its own or the file's type."""
    return torch.equal(before.float(), wanted) or torch.equal(before.to(number).float(), wanted)


def _largest(job: Job) -> float:
    return max((float(change.after.abs().max()) for change in changes(job.patch, job.base)), default=1.0)


def check_given(patch: object) -> Patch:
    """The patch. UserError: something else was given."""
    if not isinstance(patch, Patch):
        raise UserError(f"{type(patch).__name__} as the patch", accepted="what expunge.erase or Patch.load returns")
    return patch
