"""What diffusers makes of an exported file, where it can read it here: the tool's own reader, offline.

Formats of A1111 and ComfyUI alone are read by no package that could be asked; for those our own inverse map stands
(`exports.incoming`).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import Tensor, nn

from expunge.errors import UserError
from expunge.exports.base import changes
from expunge.exports.writing import Job, Written, gap
from expunge.models.lora import peft
from expunge.models.opening import quiet
from expunge.models.scope import full_name
from expunge.records.export import ReadBack

_NAME = f"diffusers {version('diffusers')}"


def loadable(kind: str) -> tuple[str, ...]:
    """Components whose LoRA a pipeline of diffusers loads."""
    return tuple(getattr(getattr(diffusers, kind), "_lora_loadable_modules", ()))


def read_by_diffusers(job: Job, written: Written, path: Path, how: str) -> ReadBack:
    """Open what was written with diffusers, and compare every weight that changes.

    Args:
        how: "from_pretrained", "from_single_file" or "load_lora_weights".
    """
    reader = f"{_NAME} {how}"
    try:
        with _hushed(), torch.no_grad():
            parts = _OPENERS[how](job, path, sorted({name.partition("/")[0] for name in written.names}))
    except UserError as error:
        return ReadBack(reader=reader, note=f"did not run: {error.got}")
    except Exception as error:  # whatever the library raises of a file that it cannot read
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return ReadBack(reader=reader, note=f"did not read it: {type(error).__name__}: {reason[:200]}")
    largest, count = 0.0, 0
    for change in changes(job.patch, job.base):
        if change.name not in parts or change.name not in written.names:
            continue
        largest = max(largest, gap(parts[change.name], written.meant(change)))
        count += 1
    return ReadBack(reader=reader, tensors=count, max_abs=largest if count else None)


def _folder(job: Job, path: Path, changed: list[str]) -> dict[str, Tensor]:
    base, which = job.base, {"local_files_only": True, "variant": job.write_variant or None}
    if (path / "model_index.json").is_file():
        pipe = getattr(diffusers, base.kind).from_pretrained(path, **which, **_checked_by(base.kind))
        return _weights({name: pipe.components[name] for name in base.editable if pipe.components.get(name)})
    kinds: dict[str, Any] = {name: type(base.module(name)) for name in changed}
    return _weights({name: kind.from_pretrained(path, **which) for name, kind in kinds.items()})


def _single(job: Job, path: Path, changed: list[str]) -> dict[str, Tensor]:
    base = job.base
    pipe = getattr(diffusers, base.kind).from_single_file(
        str(path), config=str(base.folder), local_files_only=True, **_checked_by(base.kind))
    return _weights({name: pipe.components[name] for name in changed})


def _lora(job: Job, path: Path, changed: list[str]) -> dict[str, Tensor]:
    """Weights under the LoRA, merged by diffusers itself, into float32."""
    from expunge.models.opening import open_model

    peft()
    base = job.base
    if base.source.loras:
        raise UserError("the base has LoRAs merged into it, which no folder of diffusers has")
    pipe = open_model(base.place, (torch.float32, torch.float32), as_stored=True).pipe
    for name in base.editable:
        pipe.components[name].float()
    pipe.load_lora_weights(str(path.parent), weight_name=path.name, local_files_only=True)
    known = [name for name in loadable(base.kind) if name in changed]
    pipe.fuse_lora(components=[name for name in known if getattr(pipe.components[name], "peft_config", None)])
    pipe.unload_lora_weights()
    return _weights({name: pipe.components[name] for name in known})


_OPENERS: Mapping[str, Any] = {"from_pretrained": _folder, "from_single_file": _single, "load_lora_weights": _lora}


def _weights(parts: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    return {full_name(component, path): value.detach() for component, part in parts.items()
            for path, value in part.named_parameters()}


@contextmanager
def _hushed() -> Iterator[None]:
    """Without what the library says of components that a file does not hold, which the comparison says better."""
    from diffusers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before)


def _checked_by(kind: str) -> dict[str, None]:
    """That no safety checker is wanted, to a pipeline that could have one."""
    return {"safety_checker": None} if kind in ("StableDiffusionPipeline", "StableDiffusionInpaintPipeline") else {}
