"""Models from disk, Hub or the package; merging one with a patch into a plain diffusers folder.

Untrusted files: only safetensors are read. Pickle files (.bin, .ckpt, .pt) run code when they are opened.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from expunge import files, runtime
from expunge.errors import ExpungeError, ModelError, StorageError, UserError
from expunge.models.base import Denoiser
from expunge.models.families import FAMILIES, Family, family_of
from expunge.models.folder import PICKLES, check_complete, check_weights, variant_of
from expunge.models.model import Model
from expunge.models.patch import Patch
from expunge.models.remembered import digests

EMBEDDED = "embedded"
"""The source name of the model in the package."""

EMBEDDED_FLOW = "emoji-flow"
"""The source name of the flow model in the package."""

_WEIGHTS = Path(__file__).resolve().parents[1] / "tiny" / "weights"
_EMBEDDED = {EMBEDDED: _WEIGHTS / "emoji-64", EMBEDDED_FLOW: _WEIGHTS / "emoji-flow"}
_HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
_ABOUT = "expunge.json"
_INDEX = "model_index.json"
_UNUSED = ("feature_extractor", "image_encoder")
"""Components of pipelines that text alone does not need."""


@torch.inference_mode(False)  # weights of inference mode could neither be trained nor take a patch
def load(source: str | Path, *, device: str = "auto", dtype: str | torch.dtype | None = None,
         text_dtype: str | torch.dtype | None = None, allow_pickle: bool = False, revision: str | None = None,
         variant: str | None = None, verify: bool = False) -> Model:
    """Open a model.

    Args:
        source: "embedded", "emoji-flow", a diffusers folder, or a Hub id ("owner/name"; HF_HUB_OFFLINE=1 keeps to its
            cache).
        device: see `runtime.current`.
        dtype: number type of the weights in memory; None means float32.
        text_dtype: that of the text encoder; None means `dtype`. "float32" trains the text encoder of a model whose
            other parts are in "bfloat16".
        allow_pickle: also read pickled weights. They can run any code: only for files that you trust.
        revision: branch, tag or commit of a Hub id.
        variant: which set of weights, where a folder has several ("fp16", "ema"). None takes the plain ones, or, of a
            folder that has none, the only variant there is. Numbers in memory are of `dtype` all the same.
        verify: hash the weights anew; else their hashes are those that were taken when the folder's files were the same
            (`models.remembered`).

    Raises:
        ModelError: missing, incomplete, pickled, or of a family that expunge does not know.
        UserError: unknown device, dtype or variant.
    """
    where, number = runtime.current(device).device, runtime.parse_dtype(dtype)
    folder = _folder(str(source), allow_pickle, revision, variant)
    family, pipe = _open(folder, allow_pickle, variant, with_checker=False)
    name, about, denoiser = _name(str(source), folder), _about(folder), family.make(pipe)
    _check_tokenizers(denoiser, folder)
    words = None if text_dtype is None else runtime.parse_dtype(text_dtype)
    guidance = 1.0 if denoiser.guided == "none" else about.get("guidance", family.guidance)
    return Model(denoiser, name, about.get("world", "open"), guidance=guidance,
                 device=where, dtype=number, text_dtype=words,
                 remember=partial(digests, folder, about=f"pickle {allow_pickle}, variant {variant}", fresh=verify))


def merge(source: str | Path, patch: Patch, out: str | Path, dtype: str = "float16", *, only: str = "",
          allow_pickle: bool = False, revision: str | None = None, variant: str | None = None) -> Path:
    """Write the patched model as a folder that diffusers opens with the source's own pipeline.

    It holds everything that the source has (safety checker included, if any), `expunge.json`, and the patch's card
    as `expunge-patch.json`. It appears whole or not at all.

    With `only` "text_encoder" it holds that component alone, for `CLIPTextModel.from_pretrained(out)`: a plug-in for
    every model with the same text encoder.

    Raises:
        ModelError: as `load` and `Model.apply`.
        UserError: `out` holds something already, or the patch changes more than the one component.
        StorageError: it cannot be written.
    """
    out, number = Path(out), runtime.parse_dtype(dtype)
    if only:
        _check_alone(patch, only)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists already", accepted="a new or empty folder")
    folder = _folder(str(source), allow_pickle, revision, variant)
    family, pipe = _open(folder, allow_pickle, variant, with_checker=True)
    model = Model(family.make(pipe), str(source))
    model.apply(patch)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.", suffix=".part") as scratch:
            part = Path(scratch) / "model"
            whole = part if not only else part / only
            with _quiet():
                (getattr(pipe, only) if only else pipe).to(dtype=number).save_pretrained(whole, safe_serialization=True)
            make_portable(part)
            part = whole
            if (folder / _ABOUT).is_file() and not only:
                shutil.copyfile(folder / _ABOUT, part / _ABOUT)
            files.write_text(part / "expunge-patch.json", patch.card.model_dump_json(indent=2) + "\n")
            part.replace(out)
    except (OSError, SafetensorError) as error:
        raise StorageError(f"cannot write {out}: {error}", remedy="free some space or choose another folder; "
                           "nothing was half-written") from error
    return out


def _name(source: str, folder: Path) -> str:
    """What records call the model: a relative folder begins with a dot, so that nobody takes it for a Hub id."""
    local = source not in _EMBEDDED and folder == Path(source)
    return f"./{source}" if local and _HUB_ID.fullmatch(source) else source


def _check_alone(patch: Patch, only: str) -> None:
    if only != "text_encoder":
        raise UserError(f"only {only!r}", accepted="text_encoder, or nothing for the whole model")
    outside = [name for name in patch.tensors if not name.startswith(f"{only}/")]
    if outside or not patch.in_encoder:
        raise UserError(f"a patch that changes {len(outside)} tensors outside the text encoder" +
                        (f", {outside[0]!r} first" if outside else ", and none in it"),
                        accepted="a patch of the text encoder alone",
                        remedy="write the whole model, or unlearn with a scope such as text")


def _folder(source: str, allow_pickle: bool, revision: str | None, variant: str | None) -> Path:
    """The local folder behind a source."""
    path = _EMBEDDED[source] if source in _EMBEDDED else Path(source).expanduser()
    if path.is_dir() and source.strip():  # no text is no path, and not the current folder
        return path
    if path.is_file():
        reason = "a pickle file runs code when it is opened; " if path.suffix in PICKLES else ""
        raise ModelError(
            f"{path} is a single file", accepted="a diffusers folder with safetensors, or a Hub id",
            remedy=f"{reason}where you trust it, convert it with "
                   "StableDiffusionPipeline.from_single_file(...).save_pretrained(folder)")
    if source in _EMBEDDED:
        raise ModelError(f"the weights of {path.name} are not in this installation",
                         accepted=f"a folder {path.name} among the package's weights",
                         remedy=f"install expunge from its wheel, or run `expunge bake --model {path.name}`")
    if not _HUB_ID.fullmatch(source):
        raise ModelError(f"no model folder at {source or repr(source)}",
                         accepted="embedded, a diffusers folder, or a Hub id (owner/name)")
    return _from_hub(source, allow_pickle, revision, variant)


def _from_hub(source: str, allow_pickle: bool, revision: str | None, variant: str | None) -> Path:
    try:
        with _quiet():
            return Path(DiffusionPipeline.download(
                source, revision=revision, variant=variant, safety_checker=None,
                use_safetensors=None if allow_pickle else True))
    except Exception as error:  # the Hub client and diffusers raise a dozen unrelated types here
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"{source} is neither a folder nor to be had from the Hub: {reason}",
            accepted=f"a repository in safetensors with one of {', '.join(FAMILIES)}",
            remedy="check the name, the network and HF_HUB_OFFLINE; pickled weights need allow_pickle, weights in "
                   "half precision alone variant='fp16' (--variant fp16)") from error


def pipeline_class(folder: Path) -> str:
    """The class of diffusers that opens a folder ("StableDiffusionPipeline").

    Raises:
        ModelError: no diffusers folder.
    """
    try:
        return str(json.loads((folder / _INDEX).read_text(encoding="utf-8"))["_class_name"])
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


def _open(folder: Path, allow_pickle: bool, variant: str | None, with_checker: bool) -> tuple[Family, Any]:
    """The family and the pipeline in a folder, after what the folder says of itself was checked."""
    kind, told = pipeline_class(folder), json.loads((folder / _INDEX).read_text(encoding="utf-8"))
    family = family_of(kind, str(folder))
    check_weights(folder, family.weighed, allow_pickle)
    for part in (*family.weighed, *family.optional):
        words = part.replace("text_encoder", "tokenizer")
        if part.startswith("text_encoder") and (folder / part).is_dir() and not (folder / words).is_dir():
            raise ModelError(f"{folder} has no {words}", accepted="a tokenizer beside each text encoder",
                             remedy="fetch or save the model again")
    chosen = variant_of(folder, family.weighed, variant or "", allow_pickle)
    without: dict[str, Any] = {} if with_checker or "safety_checker" not in told else {"safety_checker": None}
    without |= {} if with_checker else {name: None for name in _UNUSED if name in told}
    without |= {name: None for name in family.optional if not (folder / name).is_dir()}
    if "safety_checker" in without:
        without["requires_safety_checker"] = False
    try:
        with _quiet():
            pipe = getattr(diffusers, kind).from_pretrained(
                folder, use_safetensors=None if allow_pickle else True, local_files_only=True, variant=chosen,
                **without)
        parts = {name: getattr(pipe, name, None) for name in (*family.weighed, *family.optional)}
        check_complete(folder, chosen, {name: [key for key, _ in part.named_parameters()]
                                        for name, part in parts.items() if isinstance(part, torch.nn.Module)})
        return family, pipe
    except ExpungeError:
        raise
    except Exception as error:  # whatever a damaged file makes diffusers and transformers raise
        raise ModelError(f"the model in {folder} cannot be read: {error}",
                         remedy="fetch or save it again") from error


def _check_tokenizers(denoiser: Denoiser, folder: Path) -> None:
    """ModelError: a tokenizer that is another encoder's, or nearly empty, as libraries make one of a damaged folder."""
    for encoder in denoiser.texts:
        words, known = len(encoder.tokenizer), len(encoder.table)
        if not known / 2 <= words <= known:
            raise ModelError(f"a tokenizer of {words} words in {folder} where the {encoder.name} knows {known}",
                             accepted="each text encoder with its own tokenizer",
                             remedy="fetch or save the model again")


def _about(folder: Path) -> dict[str, Any]:
    file = folder / _ABOUT
    if not file.is_file():
        return {}
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be read: {error}",
                         accepted='JSON such as {"world": "emoji"}') from error
    guidance = told.get("guidance", 1.0) if isinstance(told, dict) else None
    if (not isinstance(told, dict) or not isinstance(told.get("world", ""), str) or isinstance(guidance, bool)
            or not isinstance(guidance, float | int) or not 1 <= guidance <= 50):
        raise ModelError(f"{file} holds {told!r}",
                         accepted='a mapping such as {"world": "emoji", "guidance": 2.0}, guidance from 1 to 50')
    return told


def make_portable(folder: Path) -> None:
    """Let any diffusers and transformers open a folder that these versions have just written.

    transformers opens a model in the number type that its config names, diffusers in float32: a folder in float16
    would mix the two and fail when it draws. And transformers before 5 asks for a leading "text_model." in the names
    of the text encoder's tensors. Nor should a folder that is published tell where its parts once lay.
    """
    for config in folder.glob("*/config.json"):
        values = json.loads(config.read_text(encoding="utf-8"))
        portable = {key: value for key, value in values.items() if key != "_name_or_path"}
        files.write_json(config, {**portable, "dtype": "float32"} if "dtype" in portable else portable)
    for config in folder.glob("text_encoder*/config.json"):
        if json.loads(config.read_text(encoding="utf-8")).get("model_type") == "clip_text_model":
            _spell_out(config.parent)


def _spell_out(part: Path) -> None:
    """Put "text_model." before what CLIP's text encoder has under it; what projects its pooled state has no such."""
    for weights in part.glob("*.safetensors"):
        tensors = load_file(weights)
        save_file({name if name.startswith(("text_model.", "text_projection.")) else f"text_model.{name}": tensor
                   for name, tensor in tensors.items()}, weights, {"format": "pt"})


@contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars of the libraries underneath, no advice on the scheduler files of other people's models."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    before = of_diffusers.is_progress_bar_enabled(), of_transformers.is_progress_bar_enabled()
    of_diffusers.disable_progress_bar()
    of_transformers.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The configuration file of this scheduler")
            yield
    finally:
        for library, was_on in zip((of_diffusers, of_transformers), before, strict=True):
            if was_on:
                library.enable_progress_bar()
