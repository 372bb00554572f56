"""Masks of a model: made, written, read, checked, and exchanged with the published format.

A file is the record's JSON. The published format is a text file of one 0.0 (trains) or 1.0 (frozen) per line, in the
order of `unet.parameters()`; ours have each tensor's name behind a "#", which `numpy.loadtxt` skips and we check.

Source: Huang et al. 2024 (FreezeAsGuard, 2405.17472), the positional file. Differs: names, hashes, the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from expunge import runtime, untrusted
from expunge.errors import ModelError, UserError
from expunge.files import write_json, write_text
from expunge.guard.ratio import Groups, check_ratio, hardened, tolerance
from expunge.models.hashing import tensors_hash
from expunge.models.model import Model
from expunge.records.freezing import FreezeMask, Granularity, MaskedTensor, Measure, hash_of_frozen
from expunge.train import step_generator

MASK = "mask.json"


def groups_of(model: Model, granularity: Granularity = "tensor") -> Groups:
    """All tensors of the UNet, in its order, by what is frozen together."""
    return Groups.by({name: p.numel() for name, p in model.parameters_of("denoiser").items()}, granularity)


def mask_of(model: Model, frozen: Iterable[str], *, method: str, ratio: float, by: Measure = "numel",
            granularity: Granularity = "tensor", scores: Mapping[str, float] | None = None,
            settings: Mapping[str, Any] | None = None, seed: int = 0, warnings: Iterable[str] = (), **about: Any
            ) -> FreezeMask:
    """A mask of the model as it is now (with the patch that is on): hashes, versions and date are filled in.

    Raises:
        UserError: weights not in float32, or names that the UNet does not have.
    """
    params, chosen = model.parameters_of("denoiser"), set(frozen)
    if unknown := sorted(chosen - params.keys()):
        raise UserError(f"{unknown[0]!r} is no tensor of the UNet", accepted="full names, such as unet/conv_in.weight")
    if model.dtype != torch.float32:
        raise UserError(f"the model's weights are {model.dtype}", accepted="torch.float32, whose hashes a mask holds",
                        remedy="load the model with dtype float32")
    tensors = {name: MaskedTensor(frozen=name in chosen, score=None if scores is None else scores[name],
                                  numel=p.numel(), sha256=content_hash(name, p) if name in chosen else "")
               for name, p in params.items()}
    return FreezeMask(model=model.name, model_hash=model.hash, process=model.process.description,
                      patch_hash=model.patch_hash, tensors=tensors, frozen_hash=hash_of_frozen(tensors), ratio=ratio,
                      by=by, granularity=granularity, method=method, settings=dict(settings or {}), seed=seed,
                      warnings=tuple(warnings), versions=runtime.versions(), machine=runtime.machine(model.device),
                      created=datetime.now(timezone.utc).isoformat(timespec="seconds"), **about)


def hard_mask(model: Model, scores: Tensor, groups: Groups, *, ratio: float, by: Measure, **about: Any
              ) -> FreezeMask:
    """The mask of `ratio` that freezes groups by score, float64 (groups,), larger first; a miss is told in it."""
    weights = groups.weights(by)
    frozen = groups.spread(hardened(scores, ratio, weights))
    share = float(weights[hardened(scores, ratio, weights)].sum() / weights.sum())
    missed = abs(share - ratio) * float(weights.sum()) > tolerance(groups, by)
    wide = [f"the ratio {ratio:g} is missed by more than one tensor: {share:.3g} of the {by} is frozen"] * missed
    each = dict(zip(groups.names, groups.spread(scores).tolist(), strict=True))
    return mask_of(model, [name for name, held in zip(groups.names, frozen.tolist(), strict=True) if held],
                   ratio=ratio, by=by, scores=each, warnings=(*about.pop("warnings", ()), *wide), **about)


def random_mask(model: Model, ratio: float, seed: int = 0, *, by: Measure = "numel",
                granularity: Granularity = "tensor") -> FreezeMask:
    """The baseline: groups in random order, until the ratio is reached.

    Raises:
        UserError: a ratio that cannot be met, or a seed that is none.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise UserError(f"seed {seed!r}", accepted="0 or a larger integer")
    groups = groups_of(model, granularity)
    check_ratio(ratio, groups, by)
    order = torch.rand(len(groups.labels), generator=step_generator(seed, 0, "random mask"), dtype=torch.float64)
    return hard_mask(model, order, groups, ratio=ratio, by=by, granularity=granularity, method="random", seed=seed)


def save_mask(path: str | Path, mask: FreezeMask) -> Path:
    """Write the mask as JSON; a folder gets `mask.json`. Returns the file."""
    file = _file(path)
    write_json(file, mask.model_dump(mode="json"))
    return file


def load_mask(path: str | Path) -> FreezeMask:
    """Read a mask from its file or folder.

    Raises:
        ModelError: missing, damaged, or edited by hand.
    """
    file = _file(path)
    if not file.is_file():
        raise ModelError(f"no mask at {path}", accepted=f"a folder with {MASK}, or a .json file",
                         remedy="make one with `expunge guard learn`")
    try:
        return FreezeMask.read(untrusted.text(file))
    except (OSError, ValueError) as error:
        raise ModelError(f"mask {file} cannot be read: {error}", accepted="a mask that expunge wrote",
                         remedy="copy or make it again") from error


def check_mask(mask: FreezeMask, model: Model) -> None:
    """Whether the mask is of this model; compares hashes that are known already, and reads no weights.

    Raises:
        UserError: no mask at all. ModelError: other weights, another process, another edit on, or tensors of other
            names or sizes.
    """
    if not isinstance(mask, FreezeMask):
        raise UserError(f"{type(mask).__name__} as a mask", accepted="what load_mask or learn_mask returns")
    remedy = "load the mask's own model"
    if (mask.model_hash, mask.process) != (model.hash, model.process.description):
        raise ModelError(f"a mask for {mask.model} ({mask.model_hash[:12]}, {mask.process})", remedy=remedy,
                         accepted=f"masks for the loaded model, {model.name} "
                                  f"({model.hash[:12]}, {model.process.description})")
    if mask.patch_hash != model.patch_hash:
        words = [f"patch {each[:12]}" if each else "no patch" for each in (mask.patch_hash, model.patch_hash)]
        raise ModelError(f"a mask for {mask.model} with {words[0]} on", accepted=f"here there is {words[1]} on",
                         remedy="put on the patch that the mask was made with, or take off the one that is on")
    check_names(mask, {name: p.numel() for name, p in model.parameters_of("denoiser").items()})


def check_names(mask: FreezeMask, sizes: Mapping[str, int]) -> None:
    """ModelError unless the mask's tensors have these names and sizes (full name -> parameters)."""
    mine = {name: tensor.numel for name, tensor in mask.tensors.items()}
    odd = [name for name in {**mine, **sizes} if mine.get(name) != sizes.get(name)]
    if odd:
        raise ModelError(f"a mask of {len(mine)} tensors for a UNet of {len(sizes)}: {odd[0]!r} is missing or has "
                         "another size", accepted="the mask's own model",
                         remedy="where a LoRA or a compiler renamed the tensors, look at the model underneath")


def export_positions(path: str | Path, mask: FreezeMask, model: Model) -> Path:
    """Write the published text format.

    Raises:
        ModelError: the model's tensors are not those of the mask, in its order.
    """
    check_mask(mask, model)
    names = tuple(model.parameters_of("denoiser"))
    if names != tuple(mask.tensors):
        raise ModelError("the mask's tensors stand in another order than the model's", accepted="the mask's own model",
                         remedy="a positional file would freeze the wrong tensors")
    lines = [f"{float(mask.tensors[name].frozen)} # {name.partition('/')[2]}" for name in names]
    file = Path(path)
    write_text(file, "\n".join(lines) + "\n")
    return file


def import_positions(path: str | Path, model: Model) -> FreezeMask:
    """Read the published text format for `model`; names are checked where the file tells them.

    Raises:
        ModelError: unreadable, another number of lines than the UNet has tensors, other values than 0 and 1, or names
            in another order.
    """
    try:
        rows = [line.partition("#") for line in untrusted.text(Path(path)).splitlines()]
        marks = [(float(value), name.strip()) for value, _, name in rows if value.strip()]
    except (OSError, ValueError) as error:
        raise ModelError(f"positional mask {path} cannot be read: {error}", accepted="one 0.0 or 1.0 per line"
                         ) from error
    names = tuple(model.parameters_of("denoiser"))
    if len(marks) != len(names):
        raise ModelError(f"positional mask {path} has {len(marks)} lines", accepted=f"{len(names)}, one for each "
                         f"tensor of this UNet", remedy="use the model and the versions that it was made with")
    for (value, name), mine in zip(marks, names, strict=True):
        if value not in (0.0, 1.0):
            raise ModelError(f"positional mask {path} holds {value:g}", accepted="0.0 and 1.0")
        if name and f"{model.network_name}/{name}" != mine:
            raise ModelError(f"positional mask {path} has {name!r} where this UNet has {mine!r}",
                             accepted="the model that it was made with")
    frozen = [name for (value, _), name in zip(marks, names, strict=True) if value]
    return mask_of(model, frozen, method="positional", ratio=len(frozen) / len(names), by="count")


def content_hash(name: str, tensor: Tensor) -> str:
    """sha256 (hex) of a tensor's name, shape and float32 values."""
    return tensors_hash({name: tensor.detach().float()})


def _file(path: str | Path) -> Path:
    path = Path(path)
    return path if path.suffix == ".json" else path / MASK
