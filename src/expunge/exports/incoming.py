"""Somebody else's edit as a patch: what a folder, a checkpoint, a component, a LoRA or a difference changes in a base.

A weight that equals the base's, or the base's rounded to the number type of the file, is no change. Nothing is left out
in silence: tensors without a place in the model, and weights that the file lacks, are refused by name, unless the
caller says that the file holds only what changed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from expunge.errors import ModelError, UserError
from expunge.exports.base import Base, open_base
from expunge.exports.dialects import IDLE, matches, taken
from expunge.exports.loaded import check_plain, digests, keys_of, tensors_of
from expunge.exports.spelling import SPELLINGS, module_at
from expunge.files import file_digest
from expunge.isolated import isolated
from expunge.models.file_weights import FileWeights
from expunge.models.folder import PICKLES, check_numbers, check_weights, variant_of, weight_files
from expunge.models.in_files import weights_in
from expunge.models.lora import read_lora
from expunge.models.opening import pipeline_class
from expunge.models.patch import A, B, Patch
from expunge.models.recognised import NETWORK
from expunge.models.scope import full_name
from expunge.models.single_file import SingleFile
from expunge.models.source import Source, source_of
from expunge.models.store import located
from expunge.records import Request
from expunge.records.card import Kind
from expunge.unlearn.erase import resolve_request

METHOD = "imported"
_LORA = (".lora_down.weight", ".lora_A.weight", ".lora.down.weight", "_lora.down.weight")
_DIFF = (".diff", ".diff_b", ".w_norm", ".b_norm")
_OTHERS = ("first_stage_model.", "vae.", "cond_stage_model.", "conditioner.", "text_encoders.")
"""Before the keys of components beside the network, in files of whole models."""
_WHOLE, _STATE = ("skip",), ("component", "partial")
_TAKEN = {"component": "a component's folder or file", "partial": "a component's folder or file",
          "skip": "a whole model's folder or file"}
"""With what files the settings go that only some have a use for."""


@dataclass(frozen=True)
class Found:
    """What a file changes.

    Attributes:
        kind, tensors: as a patch has them. form: what the file is, in words. files: sha256 by name.
        takes: settings of `import_edit` that reading such a file has a use for.
        equal: weights that are the base's. rounded: those of them that are so only in the file's number type.
        missing: weights that the file lacks. skipped: components that were not compared.
    """

    kind: Kind
    tensors: Mapping[str, Tensor]
    form: str
    files: Mapping[str, str]
    takes: tuple[str, ...] = ()
    equal: int = 0
    rounded: int = 0
    missing: int = 0
    skipped: tuple[str, ...] = ()


@isolated
def import_edit(file: str | Path, concept: str | Request | list[str], *, model: str | Path | Source = "embedded",
                anchor: str | list[str] = "", kind: str = "", parts: str | Path | None = None, component: str = "",
                partial: bool = False, skip: tuple[str, ...] = (), allow_pickle: bool = False,
                variant: str | None = None) -> Patch:
    """A patch of what `file` changes in its base model, so that it can be evaluated and attacked as any other.

    Args:
        file: a diffusers folder or single file of a whole model; a component's folder or file; a LoRA; a full
            difference. `.pt` and `.bin` only with `allow_pickle`, and then by torch's reader of weights alone.
        concept: what the edit takes out, as its authors say. anchor, kind: as in `erase`.
        model: the base that the edit was made from.
        component: which component the file is of, where more than one would do.
        partial: the file holds only the weights that changed.
        skip: components of a whole model that are not compared ("vae").
        variant: which of the base's sets of weights, as in `load`. A base in pickles takes `allow_pickle`, too.

    Raises:
        ModelError: unknown or missing tensors, quantised or pickled files, a whole model of another family, numbers
            that are not finite.
        UserError: nothing differs from the base, the concept is none, or a setting that such a file has no use for.
    """
    source = source_of(model, parts)
    base = open_base(source, located(source, variant=variant, allow_pickle=allow_pickle))
    _check_there(base, "--component", [component] if component else [], base.editable)
    _check_there(base, "--skip", skip, base.model.denoiser.components)
    request = resolve_request(base.model, concept, anchor, kind=kind)
    found = read_edit(Path(file).expanduser(), base, component=component, partial=partial, skip=skip,
                      allow_pickle=allow_pickle)
    for name, given in (("component", component), ("partial", partial), ("skip", skip)):
        if given and name not in found.takes:
            raise UserError(f"--{name} with {file} ({found.form})", accepted=f"--{name} with {_TAKEN[name]}",
                            remedy=f"leave --{name} out")
    settings = {"files": dict(found.files), "form": found.form, "weights_that_are_the_bases": found.equal,
                "of_these_after_rounding": found.rounded, "weights_not_in_the_file": found.missing,
                **({"components_not_compared": list(found.skipped)} if found.skipped else {})}
    return Patch.of(found.tensors, model=base.model, request=request, method=METHOD, settings=settings, seed=0,
                    kind=found.kind)


def _check_there(base: Base, flag: str, named: Collection[str], known: Collection[str]) -> None:
    """UserError: a component that the model does not have, or not for this."""
    if unknown := [name for name in named if name not in known]:
        raise UserError(f"{flag} {unknown[0]} of {base.model.name}", accepted=", ".join(known))


def read_edit(path: Path, base: Base, *, component: str = "", partial: bool = False, skip: tuple[str, ...] = (),
              allow_pickle: bool = False) -> Found:
    """What a file or folder changes in an opened base. Raises: as `import_edit`."""
    if not path.exists():
        raise ModelError(f"nothing at {path}", accepted="a file or folder with somebody's edit")
    if path.is_dir():
        return _of_folder(path, base, component, partial, skip)
    if path.suffix == ".safetensors" and _whole(keys_of(path)):
        return _compared(_of_file(SingleFile.open(path), base), base, "a single file of a whole model",
                         {path.name: file_digest(path)}, skip)
    tensors = tensors_of(path, allow_pickle)
    check_plain(tensors, path)
    files = {path.name: file_digest(path)}
    if any(key.endswith(_LORA) for key in tensors):
        return replace(_of_lora(path, base), files=files)
    if any(key.endswith(_DIFF) for key in tensors):
        return replace(_of_differences(tensors, base, path), files=files)
    return _of_state(tensors, base, path, files, component, partial)


def _of_folder(path: Path, base: Base, component: str, partial: bool, skip: tuple[str, ...]) -> Found:
    if (path / "model_index.json").is_file():
        return _compared(_of_pipeline(path, base), base, "a diffusers folder of a whole model", digests(path), skip)
    if (path / "pytorch_lora_weights.safetensors").is_file():
        return read_edit(path / "pytorch_lora_weights.safetensors", base)
    files = sorted(path.glob("*.safetensors"))
    if not files:
        pickled = sorted(file.name for file in path.iterdir() if file.suffix in PICKLES)
        raise ModelError(f"{path} holds no safetensors" + (f", and {pickled[0]} is a pickle" if pickled else ""),
                         accepted="a diffusers folder, or a component's folder in safetensors",
                         remedy="name the pickled file itself, with --allow-pickle, if you trust it" if pickled else "")
    tensors = dict[str, Tensor]()
    for file in files:
        more = tensors_of(file, False)
        if twice := tensors.keys() & more.keys():
            raise ModelError(f"{path} holds {min(twice)!r} in more than one file", accepted="one set of weights",
                             remedy="name the file itself")
        tensors |= more
    check_plain(tensors, path)
    named = component or (path.name if path.name in base.editable else "")
    return _of_state(tensors, base, path, digests(path), named, partial)


def _of_pipeline(path: Path, base: Base) -> Mapping[str, Tensor]:
    """The weights of a whole diffusers folder under the base's names.

    Raises:
        ModelError: of another pipeline, tensors missing or without a place.
    """
    kind, parts = pipeline_class(path), base.model.denoiser.components
    if kind != base.kind:
        raise ModelError(f"{path} holds a {kind}", accepted=f"a {base.kind}, as {base.model.name} is")
    check_weights(path, [*parts], False)
    chosen = variant_of(path, [*parts], "", False)
    check_numbers(path, chosen)
    weights = weights_in(path, chosen, parts)
    held = {full_name(name, key) for name in parts for file in weight_files(path / name, chosen)
            for key in keys_of(file)}
    lacking = [name for name in base.weights if weights is None and name not in held]
    extra = [name for name in sorted(held) if name.partition("/")[0] in base.editable and name not in base.weights
             and name.partition("/")[2] not in base.module(name.partition("/")[0]).state_dict()
             and not IDLE.fullmatch(name.partition("/")[2])]
    if weights is None or extra:
        odd = (lacking or extra or ["a tensor of another shape"])[0]
        raise ModelError(f"{path} and {base.model.name} differ in their tensors: {odd!r} is in one alone",
                         accepted="models of one architecture", remedy="name its own base with --model")
    return weights


def _of_file(file: SingleFile, base: Base) -> FileWeights:
    """A whole single file under the base's names, its configs and what it lacks being the base's.

    Raises:
        ModelError: of another family, tensors missing or without a place.
    """
    if file.kind != base.kind:
        raise ModelError(f"{file.path} is a model of {file.family.title}",
                         accepted=f"a {base.kind}, as {base.model.name} is", remedy="name its own base with --model")
    weights = FileWeights(file, base.folder, base.model.denoiser)
    lacking = [lies.key for lies in weights.lies.values() if lies.key and lies.key not in file.shapes]
    if lacking:
        raise ModelError(f"{file.path} lacks {len(lacking)} tensors of the model, {lacking[0]!r} first",
                         accepted="a whole file")
    file.check_places({name: base.module(name) for name in file.holds()}, weights.used, base.folder)
    return weights


def _compared(theirs: Mapping[str, Tensor], base: Base, form: str, files: Mapping[str, str], skip: tuple[str, ...]
              ) -> Found:
    """What of a whole model differs from the base.

    Raises:
        ModelError: a component that no patch changes differs, too.
    """
    changed, equal, rounded = dict[str, Tensor](), 0, 0
    for name in base.weights:
        component = name.partition("/")[0]
        if component in skip:
            continue
        mine, value = base.weights[name], theirs[name]
        same = _same(value, mine)
        equal, rounded = equal + (same != ""), rounded + (same == "rounded")
        if not same and component not in base.editable:
            raise ModelError(f"{name!r} differs from {base.model.name}'s, and no patch changes the {component}",
                             accepted=f"the base's own {component}", remedy=f"leave it out with --skip {component}: "
                             "what is measured then is the rest of the edit")
        if not same:
            changed[name] = value.detach().float().contiguous()
    return _checked(Found("replace", changed, form, files, _WHOLE, equal, rounded, 0, skip), base)


def _of_state(tensors: Mapping[str, Tensor], base: Base, path: Path, files: Mapping[str, str], component: str,
              partial: bool) -> Found:
    if any(key.startswith(tuple(f"{name}/" for name in base.editable)) for key in tensors):
        raise UserError(f"{path} is a patch of expunge's own", accepted="an edit in another form",
                        remedy="evaluate and attack it as it is: there is nothing to import")
    changed, equal, rounded, ways, missing = dict[str, Tensor](), 0, 0, list[str](), 0
    for match in matches(tensors, base, str(path), component):
        if match.missing and not partial:
            raise ModelError(f"{path} lacks {len(match.missing)} of {len(match.missing) + len(match.lies)} weights of "
                             f"the {match.component}, {match.missing[0]!r} first", accepted="all of them",
                             remedy="where the file holds only what its authors changed, say so with --partial")
        ways.append(f"{match.component} in {match.way}")
        missing += len(match.missing)
        for name, (key, place) in match.lies.items():
            mine = base.weights[name]
            value = taken(tensors[key], place, tuple(mine.shape))
            same = _same(value, mine)
            equal, rounded = equal + (same != ""), rounded + (same == "rounded")
            if not same:
                changed[name] = value.detach().float().contiguous()
    return _checked(Found("replace", changed, "; ".join(ways), files, _STATE, equal, rounded, missing), base)


def _of_lora(path: Path, base: Base) -> Found:
    file = read_lora(path, base.model)
    tensors: dict[str, Tensor] = {}
    for name, (down, up) in file.factors.items():
        if bool(up.any()) and bool(down.any()):  # rows of a fused layer that stay have zeros
            layer = name.removesuffix(".weight")
            rank = len(down)
            sides = base.weights[name].shape[2:]
            tensors[layer + A] = down.reshape(rank, -1, *sides) if sides else down.flatten(1)
            tensors[layer + B] = up.reshape(len(up), rank, *(1 for _ in sides)).contiguous()
    return _checked(Found("lora", tensors, "a LoRA", {}, equal=len(file.factors) - len(tensors) // 2), base)


def _of_differences(tensors: Mapping[str, Tensor], base: Base, path: Path) -> Found:
    table, out, used = _difference_names(base), dict[str, Tensor](), set[str]()
    for key, value in tensors.items():
        for name, place in table.get(key, ()):
            used.add(key)
            part = taken(value, place, tuple(base.weights[name].shape)).float().contiguous()
            if bool(part.any()):
                out[name] = part
    unknown = [key for key in tensors if key not in used and not key.endswith(".alpha")]
    if unknown:
        raise ModelError(f"{path} holds {len(unknown)} tensors that are no difference of a weight of "
                         f"{base.model.name}, {unknown[0]!r} first", accepted="full differences, in kohya's or "
                         "ComfyUI's names", remedy="name the model that it was made for with --model")
    return _checked(Found("add", out, "full differences", {}), base)


def _difference_names(base: Base) -> dict[str, list[tuple[str, Any]]]:
    """What a file may call a difference of each weight, in both dialects."""
    table: dict[str, list[tuple[str, Any]]] = {}
    for component in base.editable:
        for name in base.names(component):
            layer, _, end = name.partition("/")[2].rpartition(".")
            module = module_at(base, component, layer)
            wide = isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
            ends = {"weight": "diff" if wide else "w_norm", "bias": "diff_b" if wide else "b_norm"}
            for dialect in ("kohya", "comfy"):
                if end in ends:
                    place = SPELLINGS[dialect](base, component, layer)
                    entries = table.setdefault(f"{place.key}.{ends[end]}", [])
                    if (name, place) not in entries:
                        entries.append((name, place))
    return table


def _whole(keys: list[str]) -> bool:
    """Whether a file with these keys holds more than one component, in the layout of a whole model."""
    return any(key.startswith(NETWORK) for key in keys) and any(key.startswith(_OTHERS) for key in keys)


def _same(value: Tensor, mine: Tensor) -> str:
    """ "equal", "rounded" (to the number type of `value`), or "" where they differ."""
    if torch.equal(value.double(), mine.double()):
        return "equal"
    return "rounded" if torch.equal(value, mine.to(value.dtype)) else ""


def _checked(found: Found, base: Base) -> Found:
    """What was found. UserError: nothing differs from the base. ModelError: numbers that are not finite."""
    if broken := [name for name, value in found.tensors.items() if not bool(value.isfinite().all())]:
        raise ModelError(f"{broken[0]!r} holds values that are not finite", accepted="finite weights",
                         remedy="fetch the file again")
    if not found.tensors:
        raise UserError(f"an edit that changes nothing of {base.model.name}: all {found.equal} weights are its own",
                        accepted="an edited model", remedy="name the model that it was made from with --model")
    return found
