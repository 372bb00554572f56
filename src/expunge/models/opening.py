"""Opening what lies on disk: a diffusers folder or a single file, in given number types, as its own family.

What the folder or file says of itself is checked first, so that nothing is read of a model that cannot be used.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch

from expunge import runtime, untrusted
from expunge.errors import ExpungeError, ModelError, UserError
from expunge.models.agreement import check_agreement
from expunge.models.base import Denoiser
from expunge.models.families import Family, family_of
from expunge.models.folder import (
    check_complete,
    check_no_code,
    check_numbers,
    check_schedule,
    check_weights,
    has_weights,
    variant_of,
)
from expunge.models.in_files import InFiles, file_type, stored_type, weights_in
from expunge.models.reading import laid_out
from expunge.models.scope import full_name
from expunge.models.single_file import SingleFile, check_parts, lacking, without_values

log = logging.getLogger(__name__)

AUTO = "auto"
"""The number type in which a model's files are."""
Types = tuple[torch.dtype, torch.dtype]
"""Number types of all networks and of the text encoders among them."""
_INDEX = "model_index.json"
_UNUSED = ("feature_extractor", "image_encoder")
"""Components of pipelines that text alone does not need."""


@dataclass(frozen=True)
class Location:
    """Where a model lies, and how it is read.

    Attributes:
        path: a diffusers folder, or a single safetensors file.
        allow_pickle, variant: as in `store.load`.
        parts: the folder that lends a single file what it lacks; "" for none.
    """

    path: Path
    allow_pickle: bool = False
    variant: str | None = None
    parts: str = ""


@dataclass(frozen=True)
class Opened:
    """What was opened.

    Attributes:
        stored: the weights as the folder's files hold them; None where those in memory are all that there is.
    """

    family: Family
    pipe: Any
    denoiser: Denoiser
    stored: InFiles | None


def pipeline_class(folder: Path) -> str:
    """The class of diffusers that opens a folder ("StableDiffusionPipeline").

    Raises:
        ModelError: no diffusers folder.
    """
    try:
        return str(untrusted.json_of(folder / _INDEX)["_class_name"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder} is no diffusers folder: {_INDEX} is missing or damaged",
                         accepted="a folder that a pipeline's save_pretrained wrote") from error


def opener(folder: Path) -> str:
    """The line of Python that opens a folder with plain diffusers.

    Raises:
        ModelError: no diffusers folder, or one of another family.
    """
    kind = pipeline_class(folder)
    missing = [name for name in family_of(kind, str(folder)).optional if not (folder / name).is_dir()]
    return f'{kind}.from_pretrained("{folder}"{"".join(f", {name}=None" for name in missing)})'


def number_types(place: Location, dtype: str | torch.dtype | None, text_dtype: str | torch.dtype | None) -> Types:
    """The types that a caller names; "auto" is that of the files, None float32 (of text encoders: as the others).

    Raises:
        UserError: an unknown type.
        ModelError: "auto" of a folder that is none, or of another family.
    """
    if dtype != AUTO:
        number = _parsed(dtype)
    elif place.path.is_file():
        number = file_type(place.path) or torch.float32
    else:
        family = family_of(pipeline_class(place.path), str(place.path))
        chosen = variant_of(place.path, family.weighed, place.variant or "", place.allow_pickle)
        number = stored_type(place.path, chosen, family.weighed[0]) or torch.float32
    return number, number if text_dtype in (None, AUTO) else _parsed(text_dtype)


def _parsed(name: str | torch.dtype | None) -> torch.dtype:
    """`runtime.parse_dtype`, where "auto" is known, too."""
    try:
        return runtime.parse_dtype(name)
    except UserError as error:
        raise UserError(f"unknown number type {str(name)!r}", accepted=", ".join([*runtime.DTYPES, AUTO]),
                        remedy="for blocks in 8 bits add --eight-bit to one of these" if "8" in str(name) else ""
                        ) from error


def open_model(place: Location, types: Types, *, with_checker: bool = False, as_stored: bool = False,
               unread: bool = False) -> Opened:
    """Open a model in these number types, with the weights as its files hold them.

    Where the files do not tell these by name, or `as_stored` says that they will be changed in memory, everything is
    opened as it is stored, for the networks in memory are then all that a hash can be taken of. `unread`: where they
    do, networks have no values yet (meta tensors, which `models.residence` brings into memory).

    Raises:
        ModelError: missing, incomplete, damaged, pickled, or of a family that expunge does not know.
        UserError: an unknown variant, or `parts` for a folder.
    """
    if place.path.is_dir() and not as_stored:
        family, pipe, chosen = _open(place, with_checker, types, unread)
        denoiser = _made(family, pipe, place)
        if (stored := weights_in(place.path, chosen, denoiser.components)) is not None:
            _fill_buffers(denoiser, stored)
            return _checked(Opened(family, pipe, denoiser, stored), place)
        del pipe, denoiser
    family, pipe, _ = _open(place, with_checker and place.path.is_dir())
    return _checked(Opened(family, pipe, _made(family, pipe, place), None), place)


def _open(place: Location, with_checker: bool, types: Types | None = None, unread: bool = False
          ) -> tuple[Family, Any, str | None]:
    """The family, the pipeline and the variant, after what the folder or file says of itself was checked.

    `types`: None leaves them to the libraries. `unread`: the networks' weights are left in their files.
    """
    path, allow_pickle = place.path, place.allow_pickle
    file = None if path.is_dir() else SingleFile.open(path)
    if file is None and place.parts:
        raise UserError(f"--parts {place.parts} for {path}",
                        accepted="--parts (parts=) for a single .safetensors file alone",
                        remedy="a folder has parts of its own: leave it out")
    folder = path if file is None else file.folder(place.parts)
    kind, index = pipeline_class(folder), untrusted.json_of(folder / _INDEX)
    if file is not None:
        check_parts(file, kind, folder)
    family = family_of(kind, str(folder))
    check_no_code(folder, index)
    check_schedule(folder)
    held = () if file is None else file.holds()
    without: dict[str, Any] = {} if with_checker or "safety_checker" not in index else {"safety_checker": None}
    without |= {} if with_checker else {name: None for name in _UNUSED if name in index}
    without |= dict.fromkeys(_missing(folder, family, held, file is not None))
    if "safety_checker" in without:
        without["requires_safety_checker"] = False
    needed = [name for name in family.weighed if name not in held]
    if file is not None and (gone := [name for name in needed if not has_weights(folder, name)]):
        raise lacking(file, gone, folder)
    check_weights(folder, needed, allow_pickle, held)
    for part in (*family.weighed, *family.optional):
        words = part.replace("text_encoder", "tokenizer")
        if (part.startswith("text_encoder") and part not in without and (folder / part).is_dir()
                and not (folder / words).is_dir()):
            raise ModelError(f"{folder} has no {words}", accepted="a tokenizer beside each text encoder",
                             remedy="fetch or save the model again")
    chosen = variant_of(folder, needed, place.variant or "", allow_pickle)
    check_numbers(folder, chosen, held)
    given: dict[str, Any] = {} if file is None else file.components(folder, index)
    if unread and file is None:
        there = [name for name in (*family.weighed, *family.optional) if name in index and name not in without
                 and not name.startswith("tokenizer")]
        given |= {name: _as_opened(without_values(folder / name, index[name])) for name in there}
    if types is not None:
        number, of_text = types
        own = {name: of_text for name in (*family.weighed, *family.optional) if name.startswith("text_encoder")}
        given["torch_dtype"] = number if number == of_text else {**own, "default": number}
    try:
        with quiet():
            pipe = getattr(diffusers, kind).from_pretrained(
                folder, use_safetensors=None if allow_pickle else True, local_files_only=True, variant=chosen,
                **without, **given)
        read = {name: getattr(pipe, name, None) for name in (*family.weighed, *family.optional) if name not in given}
        check_complete(folder, chosen, {name: [key for key, _ in part.named_parameters()]
                                        for name, part in read.items() if isinstance(part, torch.nn.Module)})
        return family, pipe, chosen
    except ExpungeError:
        raise
    except Exception as error:  # whatever a damaged file makes diffusers and transformers raise
        raise ModelError(f"the model in {folder} cannot be read: {error}",
                         remedy="fetch or save it again") from error


def _made(family: Family, pipe: Any, place: Location) -> Denoiser:
    """The family's networks. ModelError: parts that do not belong together, or that the family has not; says where."""
    try:
        check_agreement({name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)},
                        place.path)
        made = family.make(pipe)
        for encoder in made.texts:
            laid_out(encoder.tokenizer, ["a"], encoder.length)
        return made
    except ModelError as error:
        where = "" if str(place.path) in error.got else f"{place.path}: "
        raise ModelError(f"{where}{error.got}", error.accepted, error.remedy) from error
    except ExpungeError:
        raise
    except Exception as error:  # whatever a config that fits no model of the family makes of its parts
        if runtime.exhausted(error):
            raise
        raise ModelError(f"the parts of the model in {place.path} cannot be used: {error}",
                         remedy="fetch or save it again") from error


def _as_opened(module: torch.nn.Module) -> torch.nn.Module:
    """A network without values whose layers share what they share in one that was read."""
    tie = getattr(module, "tie_weights", None)
    if tie is not None:
        tie()
    return module


@torch.no_grad()
def _fill_buffers(denoiser: Denoiser, stored: InFiles) -> None:
    """Give networks that were not read the buffers that their files hold."""
    for component, part in denoiser.components.items():
        if any(p.is_meta for p in part.parameters()):
            for path, buffer in part.named_buffers():
                if (full := full_name(component, path)) in stored:
                    buffer.copy_(stored[full])


def _missing(folder: Path, family: Family, held: Collection[str], is_file: bool) -> list[str]:
    """Components that the family can do without, and does: of a file, a text encoder goes with its tokenizer."""
    if not is_file:
        return [name for name in family.optional if not (folder / name).is_dir()]
    texts = [name for name in family.optional if name.startswith("text_encoder") and name not in held
             and not has_weights(folder, name)]
    for name in texts:
        log.warning("the model is drawn without its %s: neither the file nor %s has weights for it", name, folder)
    return [name for text in texts for name in (text, text.replace("text_encoder", "tokenizer"))]


def _checked(opened: Opened, place: Location) -> Opened:
    """ModelError: a tokenizer that is another encoder's or nearly empty, as libraries make one of a damaged folder."""
    for encoder in opened.denoiser.texts:
        words, known = len(encoder.tokenizer), len(encoder.table)
        if not known / 2 <= words <= known:
            raise ModelError(f"a tokenizer of {words} words in {place.path} where the {encoder.name} knows {known}",
                             accepted="each text encoder with its own tokenizer",
                             remedy="fetch or save the model again")
        last = max(encoder.tokenizer.get_vocab().values())
        if last >= known:  # whoever writes the tokenizer down counts up to it
            raise ModelError(f"a tokenizer with a word of number {last} in {place.path} where the {encoder.name} knows "
                             f"{known}", accepted="each text encoder with its own tokenizer",
                             remedy="fetch or save the model again")
    return opened


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars of the libraries underneath, no advice on the scheduler files of other people's models.

    Nor their warnings, in which other people's names stand as they are: what makes a model another one is refused here.
    """
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    libraries = (of_diffusers, of_transformers)
    before = [(library.is_progress_bar_enabled(), library.get_verbosity()) for library in libraries]
    for library in libraries:
        library.disable_progress_bar()
        library.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The configuration file of this scheduler")
            warnings.filterwarnings("ignore", message="`torch_dtype` is deprecated")  # older diffusers know no other
            yield
    finally:
        for library, (was_on, verbosity) in zip(libraries, before, strict=True):
            library.set_verbosity(verbosity)
            if was_on:
                library.enable_progress_bar()
