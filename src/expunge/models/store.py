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
from expunge.models.in_files import InFiles, stored_type, weights_in
from expunge.models.lora import write_lora
from expunge.models.model import Model
from expunge.models.patch import Patch
from expunge.models.remembered import digests
from expunge.models.scope import full_name

EMBEDDED = "embedded"
"""The source name of the model in the package."""

_EMBEDDED_FOLDER = Path(__file__).resolve().parents[1] / "tiny" / "weights" / "emoji-64"
_HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
LORA = "lora"
"""What is written of a patch alone, in place of a whole model."""
AUTO = "auto"
"""The number type in which a model's files are."""
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
        source: "embedded", a diffusers folder, or a Hub id ("owner/name"; HF_HUB_OFFLINE=1 keeps to its cache).
        device: see `runtime.current`.
        dtype: number type of the weights in memory; None means float32, "auto" that in which the denoiser's files are.
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
    where = runtime.current(device).device
    folder = _folder(str(source), allow_pickle, revision, variant)
    number, words = _types(folder, allow_pickle, variant, dtype, text_dtype)
    family, _, denoiser, stored = _taken_over(folder, allow_pickle, variant, number, words)
    name, about = _name(str(source), folder), _about(folder)
    _check_tokenizers(denoiser, folder)
    guidance = 1.0 if denoiser.guided == "none" else about.get("guidance", family.guidance)
    return Model(denoiser, name, about.get("world", "open"), guidance=guidance,
                 device=where, dtype=number, text_dtype=words, stored=stored,
                 remember=partial(digests, folder, about=f"pickle {allow_pickle}, variant {variant}", fresh=verify))


def _types(folder: Path, allow_pickle: bool, variant: str | None, dtype: str | torch.dtype | None,
           text_dtype: str | torch.dtype | None) -> tuple[torch.dtype, torch.dtype]:
    """Number types of the denoiser (and autoencoder) and of the text encoders; "auto" is that of the files."""
    if dtype == AUTO:
        family = family_of(pipeline_class(folder), str(folder))
        chosen = variant_of(folder, family.weighed, variant or "", allow_pickle)
        number = stored_type(folder, chosen, family.weighed[0]) or torch.float32
    else:
        number = runtime.parse_dtype(dtype)
    return number, number if text_dtype in (None, AUTO) else runtime.parse_dtype(text_dtype)


def _taken_over(folder: Path, allow_pickle: bool, variant: str | None, number: torch.dtype, words: torch.dtype,
                with_checker: bool = False) -> tuple[Family, Any, Denoiser, InFiles | None]:
    """What is in a folder, opened in these number types: its family, its pipeline, and the weights as its files hold
    them.

    Where the files do not tell these by name, everything is opened as it is stored, for the networks in memory are then
    all that a hash can be taken of.
    """
    family, pipe, chosen = _open(folder, allow_pickle, variant, with_checker, (number, words))
    denoiser = family.make(pipe)
    stored = weights_in(folder, chosen, denoiser.components)
    if stored is None:
        del pipe, denoiser
        family, pipe, _ = _open(folder, allow_pickle, variant, with_checker)
        denoiser = family.make(pipe)
    return family, pipe, denoiser, stored


def merge(source: str | Path, patch: Patch, out: str | Path, dtype: str = "float16", *, only: str = "",
          allow_pickle: bool = False, revision: str | None = None, variant: str | None = None) -> Path:
    """Write the patched model as a folder that diffusers opens with the source's own pipeline.

    It holds everything that the source has (safety checker included, if any), `expunge.json`, and the patch's card
    as `expunge-patch.json`. It appears whole or not at all.

    With `only` "lora" it holds the patch alone, which must be a LoRA, for `pipe.load_lora_weights(out)`. With
    "text_encoder" it holds that component alone, for `CLIPTextModel.from_pretrained(out)`: a plug-in for
    every model with the same text encoder.

    Raises:
        ModelError: as `load` and `Model.apply`.
        UserError: `out` holds something already, or the patch changes more than the one component.
        StorageError: it cannot be written.
    """
    out, number = Path(out), runtime.parse_dtype(dtype)
    if only and only != LORA:
        _check_alone(patch, only)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} exists already", accepted="a new or empty folder")
    folder = _folder(str(source), allow_pickle, revision, variant)
    _, pipe, denoiser, stored = _taken_over(folder, allow_pickle, variant, number, number, with_checker=True)
    model = Model(denoiser, str(source), dtype=number, stored=stored)
    model.apply(patch)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.", suffix=".part") as scratch:
            part = Path(scratch) / "model"
            whole = part if only in ("", LORA) else part / only
            if only == LORA:
                model.remove()
                _write_lora(part, patch, model, pipe)
            else:
                with _quiet():
                    (getattr(pipe, only) if only else pipe).to(dtype=number).save_pretrained(whole,
                                                                                             safe_serialization=True)
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
    local = source != EMBEDDED and folder == Path(source)
    return f"./{source}" if local and _HUB_ID.fullmatch(source) else source


def _write_lora(folder: Path, patch: Patch, model: Model, pipe: Any) -> None:
    """The patch as a LoRA of the pipeline, seen to be loadable: its layers by the paths that they have there."""
    spelt = {full_name(component, path): path for component, network in model.components.items()
             for path, _ in network.named_modules()}
    write_lora(folder, patch, pipe._lora_loadable_modules, spelt)


def _check_alone(patch: Patch, only: str) -> None:
    if only != "text_encoder":
        raise UserError(f"only {only!r}", accepted="lora, text_encoder, or nothing for the whole model")
    outside = [name for name in patch.weights if not name.startswith(f"{only}/")]
    if outside or not patch.in_encoder:
        raise UserError(f"a patch that changes {len(outside)} tensors outside the text encoder" +
                        (f", {outside[0]!r} first" if outside else ", and none in it"),
                        accepted="a patch of the text encoder alone",
                        remedy="write the whole model, or unlearn with a scope such as text")


def _folder(source: str, allow_pickle: bool, revision: str | None, variant: str | None) -> Path:
    """The local folder behind a source."""
    path = _EMBEDDED_FOLDER if source == EMBEDDED else Path(source).expanduser()
    if path.is_dir() and source.strip():  # no text is no path, and not the current folder
        return path
    if path.is_file():
        reason = "a pickle file runs code when it is opened; " if path.suffix in PICKLES else ""
        raise ModelError(
            f"{path} is a single file", accepted="a diffusers folder with safetensors, or a Hub id",
            remedy=f"{reason}where you trust it, convert it with "
                   "StableDiffusionPipeline.from_single_file(...).save_pretrained(folder)")
    if source == EMBEDDED:
        raise ModelError("the embedded model's weights are not in this installation",
                         accepted=f"a folder {path.name} among the package's weights",
                         remedy="install expunge from its wheel, or run `expunge bake`")
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


def _open(folder: Path, allow_pickle: bool, variant: str | None, with_checker: bool,
          types: tuple[torch.dtype, torch.dtype] | None = None) -> tuple[Family, Any, str | None]:
    """The family, the pipeline and the variant in a folder, after what the folder says of itself was checked.

    `types`: number types of all and of the text encoders; None leaves both to the libraries.
    """
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
    if types is not None:
        number, of_text = types
        own = {name: of_text for name in (*family.weighed, *family.optional) if name.startswith("text_encoder")}
        without["torch_dtype"] = number if number == of_text else {**own, "default": number}
    try:
        with _quiet():
            pipe = getattr(diffusers, kind).from_pretrained(
                folder, use_safetensors=None if allow_pickle else True, local_files_only=True, variant=chosen,
                **without)
        parts = {name: getattr(pipe, name, None) for name in (*family.weighed, *family.optional)}
        check_complete(folder, chosen, {name: [key for key, _ in part.named_parameters()]
                                        for name, part in parts.items() if isinstance(part, torch.nn.Module)})
        return family, pipe, chosen
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
            warnings.filterwarnings("ignore", message="`torch_dtype` is deprecated")  # older diffusers know no other
            yield
    finally:
        for library, was_on in zip((of_diffusers, of_transformers), before, strict=True):
            if was_on:
                library.enable_progress_bar()
