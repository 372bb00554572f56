"""Models from disk, Hub or the package; merging one with a patch into a plain diffusers folder.

Untrusted files: only safetensors are read. Pickle files (.bin, .ckpt, .pt) run code when they are opened.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import tempfile
import warnings
from collections.abc import Collection, Iterator, Sequence
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
from expunge.models.agreement import check_agreement
from expunge.models.base import Denoiser
from expunge.models.families import FAMILIES, Family, family_of
from expunge.models.folder import PICKLES, check_complete, check_weights, has_weights, variant_of
from expunge.models.lora import merged
from expunge.models.model import Model
from expunge.models.patch import Patch
from expunge.models.remembered import digests
from expunge.models.single_file import SingleFile, check_parts, lacking
from expunge.models.source import EMBEDDED, Source, source_of, weighted

log = logging.getLogger(__name__)

_EMBEDDED_FOLDER = Path(__file__).resolve().parents[1] / "tiny" / "weights" / "emoji-64"
_HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
_ABOUT = "expunge.json"
_INDEX = "model_index.json"
_UNUSED = ("feature_extractor", "image_encoder")
"""Components of pipelines that text alone does not need."""


@torch.inference_mode(False)  # weights of inference mode could neither be trained nor take a patch
def load(source: str | Path | Source, *, device: str = "auto", dtype: str | torch.dtype | None = None,
         text_dtype: str | torch.dtype | None = None, allow_pickle: bool = False, revision: str | None = None,
         variant: str | None = None, verify: bool = False, parts: str | Path | None = None,
         lora: str | Sequence[str] = ()) -> Model:
    """Open a model.

    Args:
        source: "embedded", a diffusers folder, a single .safetensors file, or a Hub id ("owner/name"; HF_HUB_OFFLINE=1
            keeps to its cache).
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
        parts: the diffusers folder whose configs and tokenizers a single file takes, and the weights that it lacks.
        lora: files of LoRAs, "FILE" or "FILE:WEIGHT", that are merged into the weights, one after the other. The model
            is then another one, with a hash and a name of its own.

    Raises:
        ModelError: missing, incomplete, pickled, or of a family that expunge does not know.
        UserError: unknown device, dtype or variant.
    """
    where, number = runtime.current(device).device, runtime.parse_dtype(dtype)
    said = source_of(source, parts, lora)
    place = _place(said.model, allow_pickle, revision, variant)
    family, pipe = _open(place, allow_pickle, variant, with_checker=False, parts=said.parts)
    about, denoiser = _about(place), family.make(pipe)
    _check_tokenizers(denoiser, place)
    check_agreement(denoiser.components, place)
    name = _named(_name(said.model, place), denoiser, said)
    words = None if text_dtype is None else runtime.parse_dtype(text_dtype)
    guidance = 1.0 if denoiser.guided == "none" else about.get("guidance", family.guidance)
    return Model(denoiser, name, about.get("world", "open"), guidance=guidance,
                 device=where, dtype=number, text_dtype=words,
                 remember=None if place.is_file() or said.loras else partial(
                     digests, place, about=f"pickle {allow_pickle}, variant {variant}", fresh=verify))


def merge(source: str | Path | Source, patch: Patch, out: str | Path, dtype: str = "float16", *, only: str = "",
          allow_pickle: bool = False, revision: str | None = None, variant: str | None = None,
          parts: str | Path | None = None, lora: str | Sequence[str] = ()) -> Path:
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
    said = source_of(source, parts, lora)
    place = _place(said.model, allow_pickle, revision, variant)
    family, pipe = _open(place, allow_pickle, variant, with_checker=place.is_dir(), parts=said.parts)
    denoiser = family.make(pipe)
    model = Model(denoiser, _named(said.model, denoiser, said))
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
            if (place / _ABOUT).is_file() and not only:
                shutil.copyfile(place / _ABOUT, part / _ABOUT)
            files.write_text(part / "expunge-patch.json", patch.card.model_dump_json(indent=2) + "\n")
            part.replace(out)
    except (OSError, SafetensorError) as error:
        raise StorageError(f"cannot write {out}: {error}", remedy="free some space or choose another folder; "
                           "nothing was half-written") from error
    return out


def _name(source: str, place: Path) -> str:
    """What records call the model: a relative path begins with a dot, so that nobody takes it for a Hub id."""
    local = source != EMBEDDED and place == Path(source)
    return f"./{source}" if local and _HUB_ID.fullmatch(source) else source


def _named(name: str, denoiser: Denoiser, said: Source) -> str:
    """What records call the model, after its LoRAs were merged into it."""
    loras = [merged(denoiser, *weighted(lora)) for lora in said.loras]
    return f"{name} with LoRA {', LoRA '.join(loras)}" if loras else name


def _check_alone(patch: Patch, only: str) -> None:
    if only != "text_encoder":
        raise UserError(f"only {only!r}", accepted="text_encoder, or nothing for the whole model")
    outside = [name for name in patch.tensors if not name.startswith(f"{only}/")]
    if outside or not patch.in_encoder:
        raise UserError(f"a patch that changes {len(outside)} tensors outside the text encoder" +
                        (f", {outside[0]!r} first" if outside else ", and none in it"),
                        accepted="a patch of the text encoder alone",
                        remedy="write the whole model, or unlearn with a scope such as text")


def _place(source: str, allow_pickle: bool, revision: str | None, variant: str | None) -> Path:
    """The local folder behind a source, or the single safetensors file that it is."""
    path = _EMBEDDED_FOLDER if source == EMBEDDED else Path(source).expanduser()
    if path.is_dir() and source.strip():  # no text is no path, and not the current folder
        return path
    if path.is_file() and path.suffix == ".safetensors":
        return path
    if path.is_file():
        reason = ": a pickle file runs code when it is opened" if path.suffix in PICKLES else ""
        raise ModelError(f"{path} is a single file in {path.suffix or 'no known format'}{reason}",
                         accepted="a single .safetensors file, a diffusers folder, or a Hub id",
                         remedy="ask for it in safetensors" + ("; where you trust it, convert it with StableDiffusion"
                         "Pipeline.from_single_file(...).save_pretrained(folder)" if reason else ""))
    if source == EMBEDDED:
        raise ModelError("the embedded model's weights are not in this installation",
                         accepted=f"a folder {path.name} among the package's weights",
                         remedy="install expunge from its wheel, or run `expunge bake`")
    if not _HUB_ID.fullmatch(source):
        raise ModelError(f"no model folder at {source or repr(source)}",
                         accepted="embedded, a diffusers folder, a .safetensors file, or a Hub id (owner/name)")
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


def _open(place: Path, allow_pickle: bool, variant: str | None, with_checker: bool, parts: str = ""
          ) -> tuple[Family, Any]:
    """The family and the pipeline in a folder or a single file, after what they say of themselves was checked."""
    file = None if place.is_dir() else SingleFile.open(place)
    if file is None and parts:
        raise UserError(f"--parts {parts} for {place}",
                        accepted="--parts (parts=) for a single .safetensors file alone",
                        remedy="a folder has parts of its own: leave it out")
    folder = place if file is None else file.folder(parts)
    kind, told = pipeline_class(folder), json.loads((folder / _INDEX).read_text(encoding="utf-8"))
    if file is not None:
        check_parts(file, kind, folder)
    family = family_of(kind, str(folder))
    held = () if file is None else file.holds()
    without: dict[str, Any] = {} if with_checker or "safety_checker" not in told else {"safety_checker": None}
    without |= {} if with_checker else {name: None for name in _UNUSED if name in told}
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
    chosen = variant_of(folder, needed, variant or "", allow_pickle)
    given = {} if file is None else file.components(folder, told)
    try:
        with _quiet():
            pipe = getattr(diffusers, kind).from_pretrained(
                folder, use_safetensors=None if allow_pickle else True, local_files_only=True, variant=chosen,
                **without, **given)
        read = {name: getattr(pipe, name, None) for name in (*family.weighed, *family.optional) if name not in given}
        check_complete(folder, chosen, {name: [key for key, _ in part.named_parameters()]
                                        for name, part in read.items() if isinstance(part, torch.nn.Module)})
        return family, pipe
    except ExpungeError:
        raise
    except Exception as error:  # whatever a damaged file makes diffusers and transformers raise
        raise ModelError(f"the model in {folder} cannot be read: {error}",
                         remedy="fetch or save it again") from error


def _missing(folder: Path, family: Family, held: Collection[str], is_file: bool) -> list[str]:
    """Components that the family can do without, and does: of a file, a text encoder goes with its tokenizer."""
    if not is_file:
        return [name for name in family.optional if not (folder / name).is_dir()]
    texts = [name for name in family.optional if name.startswith("text_encoder") and name not in held
             and not has_weights(folder, name)]
    for name in texts:
        log.warning("the model is drawn without its %s: neither the file nor %s has weights for it", name, folder)
    return [name for text in texts for name in (text, text.replace("text_encoder", "tokenizer"))]


def _check_tokenizers(denoiser: Denoiser, place: Path) -> None:
    """ModelError: a tokenizer that is another encoder's, or nearly empty, as libraries make one of a damaged folder."""
    for encoder in denoiser.texts:
        words, known = len(encoder.tokenizer), len(encoder.table)
        if not known / 2 <= words <= known:
            raise ModelError(f"a tokenizer of {words} words in {place} where the {encoder.name} knows {known}",
                             accepted="each text encoder with its own tokenizer",
                             remedy="fetch or save the model again")


def _about(place: Path) -> dict[str, Any]:
    file = place / _ABOUT
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
