"""Whose tensors a file of somebody else's edit holds: its keys, matched with the names of a base model.

A file may hold one component or several, in diffusers' names, in those of the original layout, with what different
scripts put in front. Nothing is guessed from a single key: each way of spelling is tried, the one that explains most
keys is taken, and every key must be explained in the end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from expunge.errors import ModelError
from expunge.exports.base import Base
from expunge.models import original
from expunge.models.lora_names import MAPS
from expunge.models.original import Place

_NETWORK = ("", "unet.", "transformer.", "model.diffusion_model.", "diffusion_model.", "module.")
_TEXT = ("", "text_encoder.", "transformer.", "cond_stage_model.transformer.", "cond_stage_model.model.",
         "text_encoders.clip_l.transformer.", "text_encoders.clip_g.transformer.", "text_encoders.t5xxl.transformer.",
         "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model.", "module.")
IDLE = re.compile(r"(.*\.)?(embeddings\.position_ids|logit_scale|text_projection(\.weight)?|"
                   r"encoder\.embed_tokens\.weight|num_batches_tracked)")
"""What nothing computes with where a model has no such parameter."""


@dataclass(frozen=True)
class Match:
    """A component that a file holds.

    Attributes:
        component: which. way: how its keys are spelt, in words.
        lies: key and place of every weight that is there, by full name. missing: full names that are not.
    """

    component: str
    way: str
    lies: Mapping[str, tuple[str, Place]]
    missing: tuple[str, ...]


def matches(tensors: Mapping[str, Tensor], base: Base, where: str, component: str = "") -> list[Match]:
    """The components that these tensors are of.

    Args:
        where: what messages call the file. component: which one they are of, where more than one would do.

    Raises:
        ModelError: keys that are no weight's of this model, or that fit several components alike; names them.
    """
    left, found = dict(tensors), list[Match]()
    while left:
        known = {match.component for match in found}
        tries = [match for match in _tries(left, base, component) if match.component not in known]
        best = max(tries, key=lambda match: len(match.lies), default=None)
        if best is None or not best.lies:
            break
        rivals = {match.component for match in tries if len(match.lies) == len(best.lies)}
        if len(rivals) > 1:
            raise ModelError(f"the tensors of {where} could be of the {' or the '.join(sorted(rivals))}",
                             accepted="the name of one of them", remedy="say which with --component")
        found.append(best)
        used = {key for key, _ in best.lies.values()}
        left = {key: value for key, value in left.items() if key not in used}
    unknown = [key for key in left if not IDLE.fullmatch(key)]
    if unknown or not found:
        said = f"{len(unknown)} tensors that no part of {base.model.name} has a place for, {unknown[0]!r} first" \
            if unknown else "no tensor of a model"
        raise ModelError(f"{where} holds {said}", accepted=f"weights of {base.model.family}'s "
                         f"{', '.join(base.editable)}", remedy="name the model that it was made from with --model")
    return found


def _tries(tensors: Mapping[str, Tensor], base: Base, only: str) -> Iterator[Match]:
    """Every way of reading the keys, with what it explains."""
    for component in base.editable:
        if only and component != only:
            continue
        names = {full: tuple(p.shape) for full, p in base.names(component).items()}
        for prefix in _NETWORK if component == base.network else _TEXT:
            for words, place in _ways(base, component):
                lies = dict[str, tuple[str, Place]]()
                for full, shape in names.items():
                    where = place(full.partition("/")[2])
                    key = prefix + where.key
                    if key in tensors and _fits(tensors[key], where, shape):
                        lies[full] = key, where
                missing = tuple(full for full in names if full not in lies)
                yield Match(component, f"{words}, behind {prefix!r}" if prefix else words, lies, missing)


def _ways(base: Base, component: str) -> list[tuple[str, Callable[[str], Place]]]:
    module = base.module(component)
    if component == base.network:
        made = MAPS.get(type(module).__name__)
        return [("diffusers' names", Place), *([("original names", made(module.config))] if made else [])]
    if type(module).__name__.startswith("T5"):
        return [("transformers' names", original.t5)]
    return [("transformers' names", original.clip), ("transformers' names without text_model",
            original.clip_without_prefix), ("OpenCLIP's names", original.open_clip)]


def _fits(tensor: Tensor, place: Place, shape: tuple[int, ...]) -> bool:
    """Whether a weight of this shape can lie in the tensor, a convolution of one pixel being a matrix."""
    theirs = (tuple(tensor.shape)[::-1] if place.transposed else tuple(tensor.shape)) or (1,)
    ends = lambda sides: tuple(sides[1:]) + (1,) * (4 - len(sides))
    if ends(theirs) != ends(shape):
        return False
    if place.nth is None:
        return theirs[0] == shape[0]
    return theirs[0] == place.of * shape[0] if place.of else theirs[0] > shape[0]


def taken(tensor: Tensor, place: Place, shape: tuple[int, ...]) -> Tensor:
    """The weight of this shape out of the tensor that it lies in."""
    return place.taken(tensor, shape[0]).reshape(shape)
