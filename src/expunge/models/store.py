"""Models from disk, Hub or the package; merging one with a patch into a plain diffusers folder.

Untrusted files: only safetensors are read. Pickle files (.bin, .ckpt, .pt) run code when they are opened.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from expunge import files, runtime, untrusted
from expunge.errors import MODELS_INSTALL, ModelError, StorageError, UserError
from expunge.isolated import isolated
from expunge.models.base import Denoiser
from expunge.models.families import FAMILIES
from expunge.models.folder import PICKLES
from expunge.models.lora import lora_path, merged, write_lora
from expunge.models.model import Model
from expunge.models.opening import Location, number_types, open_model, quiet
from expunge.models.patch import Patch
from expunge.models.remembered import digests
from expunge.models.scope import full_name, full_names
from expunge.models.shareable import CARD
from expunge.models.source import EMBEDDED, Source, source_of, weighted
from expunge.models.weight_hashes import Remember
from expunge.records import HUB_NAME
from expunge.scratch import beside, taken

log = logging.getLogger(__name__)

_WEIGHTS = Path(__file__).resolve().parents[1] / "tiny" / "weights"
_EMBEDDED = {EMBEDDED: "emoji-64", **{name: name for name in ("emoji-flow", "emoji-xl", "emoji-flux")}}
"""Models of the package's world: their folders, by the names that open them."""
MODELS = "expunge_models"
"""The package of the distribution that holds those of them that would make this one too large."""
LORA = "lora"
"""What is written of a patch alone, in place of a whole model."""
_ABOUT = "expunge.json"


@isolated
@torch.inference_mode(False)  # weights of inference mode could neither be trained nor take a patch
def load(source: str | Path | Source, *, device: str = "auto", dtype: str | torch.dtype | None = None,
         text_dtype: str | torch.dtype | None = None, allow_pickle: bool = False, revision: str | None = None,
         variant: str | None = None, verify: bool = False, parts: str | Path | None = None,
         lora: str | Sequence[str] = (), offload: bool = False, eight_bit: bool = False) -> Model:
    """Open a model.

    Args:
        source: "embedded", "emoji-flow", "emoji-xl", "emoji-flux", a diffusers folder, a single .safetensors file, or a
            Hub id ("owner/name"; HF_HUB_OFFLINE=1 keeps to its cache).
        device: see `runtime.current`.
        dtype: number type of the weights in memory; None means float32, "auto" that in which the denoiser's files are.
        text_dtype: that of the text encoder; None means `dtype`. "float32" trains the text encoder of a model whose
            other parts are in "bfloat16".
        allow_pickle: also read pickled weights. They can run any code: only for files that you trust.
        revision: branch, tag or commit of a Hub id.
        variant: which set of weights, where a folder has several ("fp16", "ema"). None takes the plain ones, or, of a
            folder that has none, the only variant there is. Numbers in memory are of `dtype` all the same.
        verify: hash the weights anew; else their hashes are those that were taken when its files were the same
            (`models.remembered`).
        parts: the diffusers folder whose configs and tokenizers a single file takes, and the weights that it lacks.
        lora: files of LoRAs, "FILE" or "FILE:WEIGHT", that are merged into the weights, one after the other. The model
            is then another one, with a hash and a name of its own.
        offload: have only the networks in memory that are asked: text encoders, denoiser and autoencoder in turn. Each
            is read again from the folder's files (of a model without such files it waits in the processor's memory).
            Results are the same to rounding; changing over takes the time of reading.
        eight_bit: hold the linear layers of the denoiser's blocks in 8 bits (`models.eight_bit`). Such a model draws
            almost the same, and a LoRA trains over it; it has the hash of its files, and its patches fit the others.

    Raises:
        ModelError: missing, incomplete, pickled, or of a family that expunge does not know.
        UserError: unknown device, dtype or variant; `offload` where networks have nowhere to go; `eight_bit` of weights
            that no folder has.
    """
    where, said = runtime.current(device).device, source_of(source, parts, lora)
    place = located(said, allow_pickle=allow_pickle, revision=revision, variant=variant)
    number, words = number_types(place, dtype, text_dtype)
    opened = open_model(place, (number, words), as_stored=bool(said.loras), unread=offload or eight_bit)
    if offload and opened.stored is None and where.type == "cpu":
        raise UserError(f"offloading of {said.model} on a processor: its weights are in no folder that it could leave "
                        "for", accepted="a diffusers folder in safetensors, or an accelerator",
                        remedy="leave --offload out, or write a folder first (save_pretrained)")
    if eight_bit and opened.stored is None:
        raise UserError(f"8 bits for {said.model}: its weights are in no folder that could tell what they were",
                        accepted="a diffusers folder in safetensors",
                        remedy="leave --eight-bit out, or write a folder first (save_pretrained)")
    about, denoiser = _about(place.path), opened.denoiser
    name = _named(_name(said.model, place.path), denoiser, said)
    if opened.family.note:
        log.warning("%s is %s", name, opened.family.note)
    guidance = 1.0 if denoiser.guided == "none" else about.get("guidance", opened.family.guidance)
    return Model(denoiser, name, about.get("world", "open"), guidance=guidance,
                 device=where, dtype=number, text_dtype=words, stored=opened.stored, apart=offload, eight_bit=eight_bit,
                 remember=_remembering(place, said, verify))


@isolated
def merge(source: str | Path | Source, patch: Patch, out: str | Path, dtype: str = "float16", *, only: str = "",
          allow_pickle: bool = False, revision: str | None = None, variant: str | None = None,
          parts: str | Path | None = None, lora: str | Sequence[str] = (), shard_size: str = "",
          write_variant: str = "") -> Path:
    """Write the patched model as a folder that diffusers opens with the source's own pipeline.

    It holds everything that the source has (safety checker included, if any), `expunge.json`, and the patch's card
    as `expunge-patch.json`. It appears whole or not at all.

    With `only` "lora" it holds the patch alone, which must be a LoRA, for `pipe.load_lora_weights(out)`. With the name
    of a component ("text_encoder", "unet") it holds that one alone, for `from_pretrained(out)` of its class; a text
    encoder is a plug-in for every model with the same one. `shard_size` ("5GB") and `write_variant` ("fp16") are
    diffusers' own; "" leaves them out.

    Raises:
        ModelError: as `load` and `Model.apply`.
        UserError: `out` holds something already, or the patch changes more than the one component.
        StorageError: it cannot be written.
    """
    out, number = files.output_folder(out), runtime.parse_dtype(dtype)
    if only and only != LORA:
        _check_alone(patch, only)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise taken(out, "a new or empty folder")
    said = source_of(source, parts, lora)
    place = located(said, allow_pickle=allow_pickle, revision=revision, variant=variant)
    opened = open_model(place, (number, number), with_checker=True, as_stored=bool(said.loras))
    pipe, denoiser = opened.pipe, opened.denoiser
    name = _named(said.model, denoiser, said)
    exact = _sums(patch, denoiser, opened.stored) if number != torch.float32 else {}
    model = Model(denoiser, name, dtype=number, stored=opened.stored)
    model.apply(patch)
    with torch.no_grad():
        for changed, value in exact.items():
            model.shapes_of([changed])[changed].copy_(value)
    try:
        with beside(out) as scratch:
            part = scratch / "model"
            whole = part if only in ("", LORA) else part / only
            if only == LORA:
                model.remove()
                _write_lora(part, patch, model, pipe)
            else:
                with quiet():
                    sized = {"max_shard_size": shard_size} if shard_size else {}
                    (getattr(pipe, only) if only else pipe).to(dtype=number).save_pretrained(
                        whole, safe_serialization=True, variant=write_variant or None, **sized)
                make_portable(part)
            part = whole
            if (place.path / _ABOUT).is_file() and not only:
                shutil.copyfile(place.path / _ABOUT, part / _ABOUT)
            files.write_text(part / CARD, patch.card.model_dump_json(indent=2) + "\n")
            files.readable_by_all(part)
            part.replace(out)
    except (OSError, SafetensorError) as error:
        raise StorageError(f"cannot write {out}: {error}", remedy="free some space or choose another folder; "
                           "nothing was half-written") from error
    return out


def _name(source: str, place: Path) -> str:
    """What records call the model: a relative path begins with a dot, so that nobody takes it for a Hub id."""
    local = source not in _EMBEDDED and place == Path(source)
    return f"./{source}" if local and HUB_NAME.fullmatch(source) else source


def _remembering(place: Location, said: Source, fresh: bool) -> Remember:
    """Digests of the model that all files which decide its weights have been read as before."""
    loras = [weighted(lora) for lora in said.loras]
    lent = [Path(place.parts).expanduser()] if place.parts else []
    read = f"pickle {place.allow_pickle}, variant {place.variant}"
    about = "; ".join([read, *(f"LoRA {number} at {weight!r}" for number, (_, weight) in enumerate(loras))])
    return partial(digests, [place.path, *lent, *(lora_path(path) for path, _ in loras)], about=about, fresh=fresh)


def _named(name: str, denoiser: Denoiser, said: Source) -> str:
    """What records call the model, after its LoRAs were merged into it."""
    loras = [merged(denoiser, *weighted(lora)) for lora in said.loras]
    return f"{name} with LoRA {', LoRA '.join(loras)}" if loras else name


@torch.no_grad()
def _sums(patch: Patch, denoiser: Denoiser, stored: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """What a patch that adds makes of weights as they are stored, so that sums are rounded once, in the end."""
    if patch.card.kind == "replace":
        return {}
    if stored is None:
        stored = {full: p for name, module in denoiser.components.items()
                  for full, p in full_names(name, module).items()}
    return {name: patch.value(name, stored[name].detach()) for name in patch.weights
            if name in stored and tuple(stored[name].shape) == patch.shape(name)}


def _write_lora(folder: Path, patch: Patch, model: Model, pipe: Any) -> None:
    """The patch as a LoRA of the pipeline, seen to be loadable: its layers by the paths that they have there."""
    spelt = {full_name(component, path): path for component, network in model.components.items()
             for path, _ in network.named_modules()}
    write_lora(folder, patch, pipe._lora_loadable_modules, spelt)


def _check_alone(patch: Patch, only: str) -> None:
    if not re.fullmatch(r"text_encoder(_\d)?|unet|transformer", only):
        raise UserError(f"only {only!r}", accepted="lora, a component that a patch changes (text_encoder, unet), or "
                        "nothing for the whole model")
    what = only.replace("_", " ")
    outside = [name for name in patch.weights if not name.startswith(f"{only}/")]
    if outside or not patch.weights:
        raise UserError(f"a patch that changes {len(outside)} tensors outside the {what}" +
                        (f", {outside[0]!r} first" if outside else ", and none in it"),
                        accepted=f"a patch of the {what} alone",
                        remedy="write the whole model, or unlearn with a scope such as text")


def located(source: Source, *, allow_pickle: bool = False, revision: str | None = None, variant: str | None = None
            ) -> Location:
    """Where a source lies, and how it is read; what a Hub id names is downloaded. Its LoRAs are not looked for.

    Raises:
        ModelError: nothing is there, or nothing that can be opened.
    """
    return Location(_local(source.model, allow_pickle, revision, variant), allow_pickle, variant, source.parts)


def opened_from(source: Source, place: Location) -> dict[str, list[Path]]:
    """The files and folders that a model is opened from, by what they are in words; `place`: as `located` has it.

    Raises:
        ModelError: a LoRA that is not there.
    """
    return {"the model": [place.path], "the LoRA": [lora_path(weighted(lora)[0]) for lora in source.loras],
            "the folder that lends the model parts": [Path(source.parts).expanduser()] if source.parts else []}


def hub_id(source: str) -> str:
    """The source itself, where it is looked for on the Hub; "" of the package's own models and of what lies here."""
    here = source in _EMBEDDED or Path(source).expanduser().exists()
    return source if HUB_NAME.fullmatch(source) and not here else ""


def _local(source: str, allow_pickle: bool, revision: str | None, variant: str | None) -> Path:
    """The local folder behind a source, or the single safetensors file that it is."""
    path = _installed(_EMBEDDED[source]) if source in _EMBEDDED else Path(source).expanduser()
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
    if source in _EMBEDDED:
        raise ModelError(f"the weights of {path.name} are not in this installation",
                         accepted=f"a folder {path.name} among the package's weights",
                         remedy=f"{MODELS_INSTALL} brings emoji-flow; or run `expunge bake --make {path.name}`")
    if path.suffix == ".safetensors":
        raise ModelError(f"no file at {source}", accepted="a .safetensors file that is there")
    if not HUB_NAME.fullmatch(source):
        raise ModelError(f"no model folder at {source or repr(source)}",
                         accepted="embedded, a diffusers folder, a .safetensors file, or a Hub id (owner/name)")
    return _from_hub(source, allow_pickle, revision, variant)


def _installed(name: str) -> Path:
    """The folder of one of the package's own models: in this package, or in the one that holds further ones."""
    own = _WEIGHTS / name
    spec = None if own.is_dir() else find_spec(MODELS)
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    return next((folder for place in places if (folder := Path(place) / name).is_dir()), own)


def _from_hub(source: str, allow_pickle: bool, revision: str | None, variant: str | None) -> Path:
    try:
        with quiet():
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


def _about(place: Path) -> dict[str, Any]:
    file = place / _ABOUT
    if not file.is_file():
        return {}
    try:
        about = untrusted.json_of(file)
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be read: {error}",
                         accepted='JSON such as {"world": "emoji"}') from error
    guidance = about.get("guidance", 1.0) if isinstance(about, dict) else None
    if (not isinstance(about, dict) or not isinstance(about.get("world", ""), str) or isinstance(guidance, bool)
            or not isinstance(guidance, float | int) or not 1 <= guidance <= 50):
        raise ModelError(f"{file} holds {about!r}",
                         accepted='a mapping such as {"world": "emoji", "guidance": 2.0}, guidance from 1 to 50')
    return about


def make_portable(folder: Path) -> None:
    """Let any diffusers and transformers open a folder that these versions have just written.

    transformers opens a model in the number type that its config names, diffusers in float32: a folder in float16
    would mix the two and fail when it draws. And transformers before 5 asks for a leading "text_model." in the names
    of the text encoder's tensors. Nor should a folder that is published tell where its parts once lay.
    """
    for config in folder.glob("*/config.json"):
        values = untrusted.json_of(config)
        portable = {key: value for key, value in values.items() if key != "_name_or_path"}
        files.write_json(config, {**portable, "dtype": "float32"} if "dtype" in portable else portable)
    for config in folder.glob("text_encoder*/config.json"):
        if untrusted.json_of(config).get("model_type") == "clip_text_model":
            _spell_out(config.parent)


def _spell_out(part: Path) -> None:
    """Put "text_model." before what CLIP's text encoder has under it; what projects its pooled state has no such."""
    for weights in part.glob("*.safetensors"):
        tensors = untrusted.all_tensors(weights)
        save_file({name if name.startswith(("text_model.", "text_projection.")) else f"text_model.{name}": tensor
                   for name, tensor in tensors.items()}, weights, {"format": "pt"})
