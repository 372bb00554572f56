"""The user's own single file with the edit in it: patched in place of rebuilt.

Only tensors that the edit changes are written, in the number type, the shape and the place that they have in the file;
every other key, its bytes, the order and the metadata stay. So nothing is lost that a diffusers folder does not hold:
Stable Diffusion 2's last text layer, its projection, position ids, averages, marks of v-prediction. Of a fused tensor
only the edited rows change.

That the file holds the base's weights is what its hash says, taken of all of them under the names of the base.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from expunge import untrusted
from expunge.errors import UserError
from expunge.exports.base import Change, changes, told
from expunge.exports.headers import about
from expunge.exports.tensor_file import write_patched
from expunge.exports.writing import Job, Written, check_survives, refuse_or_leave
from expunge.models.file_weights import FileWeights

_AVERAGES = "model_ema."


def write(job: Job, path: Path) -> Written:
    """Write the file that the base was opened from, with the edit in it.

    Raises:
        UserError: the base is no single file, has LoRAs merged into it, or lacks what the patch changes.
        ModelError: the file's number type does not hold a value, or tells no change apart.
    """
    base, weights = job.base, job.base.weights
    if base.file is None or not isinstance(weights, FileWeights):
        raise UserError(f"{base.source.model} in place of a single file" if base.file is None else
                        "a single file with LoRAs merged into it", accepted="the single .safetensors file that is to "
                        "be patched (--original FILE, or --model FILE with --parts FOLDER), and no --lora",
                        remedy="a folder is written by --to folder")
    tally = refuse_or_leave(job, lambda name: "" if name in weights.lies and weights.lies[name].key
                            else "in no tensor of the file")
    by_key: dict[str, list[str]] = {}
    for change in changes(job.patch, base):
        if change.name in tally.left:
            continue
        key = weights.lies[change.name].key
        by_key.setdefault(key, []).append(change.name)
        number = base.file.types[key]
        cast = change.after.to(number)
        tally.add(change, cast.double() - change.before.double(), told(change, number), key=key)
    check_survives(tally.entries, job.dtype)
    metadata = about(base, job.patch, out=job.out, title=job.title)
    write_patched(base.file.path, path, _edits(job, weights, by_key), metadata)

    def expected(change: Change) -> Tensor:
        return change.after.to(base.file.types[weights.lies[change.name].key]).float()  # type: ignore[union-attr]

    averages = sum(key.startswith(_AVERAGES) for key in base.file.shapes)
    notes = () if averages < 2 else (
        f"{averages} averaged weights ({_AVERAGES}*) are in the file as they were: a program that is told to draw with "
        "them draws without the edit",)
    return tally.written(expected, "as stored", notes)


def _edits(job: Job, weights: FileWeights, by_key: dict[str, list[str]]) -> Iterator[tuple[str, Tensor]]:
    """Whole tensors of the file with the edited rows in them, one after the other."""
    with untrusted.tensors(weights.file.path) as opened, torch.no_grad():
        for key, names in by_key.items():
            stack = opened.get_tensor(key).clone()
            for name in names:
                after = job.patch.value(name, weights[name]).float()
                weights.lies[name].place.put(stack, after.to(stack.dtype))
            yield key, stack
