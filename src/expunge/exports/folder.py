"""Diffusers folders: the whole model, or one component of it."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from expunge.exports.base import Change, only_component
from expunge.exports.writing import Job, Written, whole_values, words
from expunge.models.store import merge


def write_model(job: Job, path: Path) -> Written:
    """Write the whole model as a folder that diffusers opens. Raises: as `models.store.merge`."""
    return _write(job, path, "")


def write_component(job: Job, path: Path) -> Written:
    """Write the one component that the patch changes, for `from_pretrained` of its class.

    Raises:
        UserError: the patch changes more than it. What `models.store.merge` raises.
    """
    return _write(job, path, only_component(job.patch, job.component, job.base))


def _write(job: Job, path: Path, only: str) -> Written:
    tally = whole_values(job, f"{only}/" if only else "")
    place = job.base.place
    merge(job.base.source, job.patch, path, words(job.dtype), only=only, allow_pickle=place.allow_pickle,
          variant=place.variant, shard_size=job.shard_size, write_variant=job.write_variant)

    def expected(change: Change) -> Tensor:
        return change.after.to(job.dtype).float()

    notes = () if not only else (f"the edit is undone by loading the stock {only} in its place",)
    return tally.written(expected, words(job.dtype), notes)
