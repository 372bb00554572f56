"""Components out of one safetensors file, as A1111, ComfyUI, Stability AI and Black Forest Labs write them.

Such a file holds weights and nothing else: no configs, no tokenizers, and often not all parts. These come from a
diffusers folder of the same family (`parts`), of which the small files are enough where the file is whole. Nothing is
fetched from anywhere. Every tensor that a network has must be in the file, and every one that the file has for a
network must have a place in it.

Source: the layouts of `models.original`. Differs from `from_single_file` of diffusers: that asks the Hub for configs,
leaves gaps unsaid, and reads FLUX at one width only.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from torch import Tensor, nn

from expunge import runtime, untrusted
from expunge.errors import ModelError
from expunge.models import original
from expunge.models.families import FAMILIES, Family
from expunge.models.recognised import NETWORK, Shapes, recognised

log = logging.getLogger(__name__)

REPOSITORIES: Mapping[str, str] = {
    "StableDiffusionPipeline": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "StableDiffusionXLPipeline": "stabilityai/stable-diffusion-xl-base-1.0",
    "StableDiffusionInpaintPipeline": "stable-diffusion-v1-5/stable-diffusion-inpainting",
    "StableDiffusionXLInpaintPipeline": "diffusers/stable-diffusion-xl-1.0-inpainting-0.1",
    "StableDiffusion3Pipeline": "stabilityai/stable-diffusion-3.5-large",
    "FluxPipeline": "black-forest-labs/FLUX.1-dev"}
"""A repository of the Hub that has each family's small files; named in advice, never asked."""


@dataclass(frozen=True)
class Layout:
    """How a component lies in a file.

    Attributes:
        prefix: before its keys. place: where its tensors lie.
        probe: a tensor that every such component has, as diffusers calls it.
        identity: tensors that are the unit matrix, whatever the file holds for them.
    """

    prefix: str
    place: original.Map
    probe: str
    identity: tuple[str, ...] = ()


_TOKENS, _T5 = "embeddings.token_embedding.weight", "shared.weight"
_CLIP_L = Layout("text_encoders.clip_l.transformer.", original.clip, _TOKENS)
_CLIP_G = Layout("text_encoders.clip_g.transformer.", original.clip, _TOKENS)
_T5_XXL = Layout("text_encoders.t5xxl.transformer.", original.t5, _T5)
# The reference implementation reads CLIP-L's pooled state without its projection.
_UNPROJECTED = Layout(_CLIP_L.prefix, original.clip, _TOKENS, ("text_projection.weight",))
_SD: Mapping[str, tuple[Layout, ...]] = {"text_encoder": (
    Layout("cond_stage_model.transformer.", original.clip, _TOKENS),
    Layout("cond_stage_model.transformer.", original.clip_without_prefix, _TOKENS),
    Layout("cond_stage_model.model.", original.open_clip, _TOKENS))}
_SDXL: Mapping[str, tuple[Layout, ...]] = {
    "text_encoder": (Layout("conditioner.embedders.0.transformer.", original.clip, _TOKENS),
                     Layout("conditioner.embedders.0.transformer.", original.clip_without_prefix, _TOKENS)),
    "text_encoder_2": (Layout("conditioner.embedders.1.model.", original.open_clip, _TOKENS),)}
_TEXTS: Mapping[str, Mapping[str, tuple[Layout, ...]]] = {
    "StableDiffusionPipeline": _SD, "StableDiffusionInpaintPipeline": _SD,
    "StableDiffusionXLPipeline": _SDXL, "StableDiffusionXLInpaintPipeline": _SDXL,
    "StableDiffusion3Pipeline": {"text_encoder": (_UNPROJECTED,), "text_encoder_2": (_CLIP_G,),
                                 "text_encoder_3": (_T5_XXL,)},
    "FluxPipeline": {"text_encoder": (_CLIP_L,), "text_encoder_2": (_T5_XXL,)}}
_VAES = ("first_stage_model.", "vae.")
_ELSEWHERE = ("cond_stage_model.", "conditioner.", "text_encoders.", *_VAES)
"""Before names of components other than the network."""

_IDLE = re.compile(r"(text_model\.)?embeddings\.position_ids|logit_scale|text_projection(\.weight)?|loss\..*"
                   r"|encoder\.embed_tokens\.weight|model_ema\..*")
"""Of a component: what nothing computes with."""
_SCHEDULE = re.compile(r"model_ema\..*|betas|alphas_cumprod(_prev)?|(sqrt|log)_.*|posterior_.*|v_pred|ztsnr|edm_.*"
                       r"|denoiser\.sigmas|lvlb_weights|scale_factor")
"""Beside components: averages of training, and the noise schedule, which the folder's scheduler says."""
_SCALED = re.compile(r".*\.(scale_weight|weight_scale|absmax|quant_map|comfy_quant)|scaled_fp8")
NUMBERS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
           "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}
"""Number types of plain weights, as headers spell them."""
_TYPES = {torch.float32, torch.float16, torch.bfloat16, torch.float64}
_EIGHTHS = {torch.float8_e4m3fn, torch.float8_e5m2}


@dataclass(frozen=True)
class SingleFile:
    """A file of a known family, its header read. types: of the tensors that are plain weights, by key."""

    path: Path
    kind: str
    shapes: Shapes
    types: Mapping[str, torch.dtype]
    metadata: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path) -> SingleFile:
        """Read the header.

        Raises:
            ModelError: damaged, of another family, or in numbers that are no plain weights.
        """
        try:
            with untrusted.tensors(path) as opened:
                views = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 (no dict)
                shapes = {name: tuple(view.get_shape()) for name, view in views.items()}
                types = {name: NUMBERS[view.get_dtype()] for name, view in views.items()
                         if view.get_dtype() in NUMBERS}
                metadata = dict(opened.metadata() or {})
        except OSError as error:
            raise ModelError(f"{path} cannot be read: {error}", accepted="a whole .safetensors file",
                             remedy="fetch the file again") from error
        scaled = [name for name in shapes if _SCALED.fullmatch(name)]
        if scaled:
            raise ModelError(f"{path} is quantised with scales of its own ({scaled[0]!r})",
                             accepted="weights in float32, float16, bfloat16 or plain float8")
        return cls(path, recognised(shapes, str(path)), shapes, types, metadata)

    @property
    def family(self) -> Family:
        """The file's family."""
        return FAMILIES[self.kind]

    @property
    def prefix(self) -> str:
        """What stands before the network's keys: nothing in files of the network alone."""
        return NETWORK if any(name.startswith(NETWORK) for name in self.shapes) else ""

    def folder(self, parts: str) -> Path:
        """The folder that lends what the file lacks.

        Raises:
            ModelError: none is named, or there is none of this name.
        """
        if not parts:
            raise lacking(self, (), None)
        folder = Path(parts).expanduser()
        if not folder.is_dir():
            raise ModelError(f"no folder {parts} to lend {self.path} configs and tokenizers",
                             accepted="--parts FOLDER: a diffusers folder here, not a Hub id")
        return folder

    def holds(self) -> tuple[str, ...]:
        """The components whose weights are in the file."""
        texts = [name for name in _TEXTS[self.kind] if self._text(name) is not None]
        vae = ["vae"] if self._vae() else []
        return (self.family.weighed[0], *vae, *texts)

    def components(self, folder: Path, index: Mapping[str, Any]) -> dict[str, nn.Module]:
        """All that the file holds, built by the configs in `folder`, whose model_index is `index`.

        Raises:
            ModelError: a config is missing or of another size, tensors are missing or have no place.
        """
        out: dict[str, nn.Module] = {}
        for name in self.holds():
            module = without_values(folder / name, index.get(name))
            layout = self.layout(name, module)
            self._fill(name, module, layout, folder)
            out[name] = module
        self._check_rest()
        return out

    def check_places(self, modules: Mapping[str, nn.Module], used: Collection[str], folder: Path) -> None:
        """ModelError: tensors of these components that they have no place for; `used`: all keys that they have."""
        for name, module in modules.items():
            self._check_used(name, module, self.layout(name, module), used, folder)
        self._check_rest()

    def predicts(self) -> str:
        """The prediction that the file tells of ("v_prediction", "epsilon"); "" where it tells none."""
        if "v_pred" in self.shapes:
            return "v_prediction"
        return {"v": "v_prediction", "v_prediction": "v_prediction", "epsilon": "epsilon"}.get(
            self.metadata.get("modelspec.prediction_type", ""), "")

    def _text(self, name: str) -> Layout | None:
        return next((layout for layout in _TEXTS[self.kind].get(name, ())
                     if layout.prefix + layout.place(layout.probe).key in self.shapes), None)

    def _vae(self) -> str:
        return next((prefix for prefix in _VAES if f"{prefix}decoder.conv_in.weight" in self.shapes), "")

    def layout(self, name: str, module: Any) -> Layout:
        """How a component lies in this file, which holds it; `module`: the network, whose config decides."""
        if name == "vae":
            return Layout(self._vae(), original.ldm_vae(module.config), "")
        text = self._text(name)
        if text is not None:
            return text
        maps = {"FluxPipeline": lambda: original.flux, "StableDiffusion3Pipeline": lambda: original.sd3(module.config)}
        return Layout(self.prefix, maps.get(self.kind, lambda: original.ldm_unet(module.config))(), "")

    @torch.no_grad()
    def _fill(self, name: str, module: nn.Module, layout: Layout, folder: Path) -> None:
        """Give a component its tensors, in the number type of the file."""
        wanted, values, used = module.state_dict(), dict[str, Tensor](), set[str]()
        with untrusted.tensors(self.path) as opened:
            for mine, empty in wanted.items():
                where = layout.place(mine)
                if mine in layout.identity:
                    values[mine] = torch.eye(*empty.shape, dtype=torch.float32)
                    continue
                key = layout.prefix + where.key
                if key not in self.shapes:
                    raise ModelError(f"{self.path} has no {key!r}, which the {name} of {folder} has",
                                     accepted=f"a whole {name}, and the configs of the same model",
                                     remedy="fetch the file again, or name the folder of its own model with --parts")
                used.add(key)
                values[mine] = self.tensor(opened, key, where, empty, name, folder)
        self._check_used(name, module, layout, used, folder)
        module.load_state_dict(values, strict=True, assign=True)
        if isinstance(module, transformers.PreTrainedModel):
            module.tie_weights()

    def tensor(self, opened: Any, key: str, where: original.Place, empty: Tensor, name: str, folder: Path) -> Tensor:
        """One tensor of a component, in its shape there (`empty`'s) and the file's number type; float8 as bfloat16.

        Args:
            opened: this file, opened. key, where: where it lies. name, folder: for messages.

        Raises:
            ModelError: of another size, or in numbers that are no plain weights.
        """
        lies = self.shapes[key]
        if lies and empty.dim() and not where.transposed:
            part = opened.get_slice(key)[where.rows(len(empty), lies[0])]
        else:
            part = opened.get_tensor(key)
        value = replace(where, nth=None).taken(part, len(part)) if lies else part
        if (where.of and lies[0] != where.of * len(empty)) or _squeezed(value.shape) != _squeezed(empty.shape):
            raise ModelError(f"{key!r} of {self.path} is {lies}, and the {name} of {folder} has "
                             f"{tuple(empty.shape)} there", accepted="configs of the same size of model",
                             remedy="name the folder of the file's own model with --parts")
        if value.dtype in _EIGHTHS:
            value = value.to(torch.bfloat16)  # which holds each of them
        elif value.dtype not in _TYPES:
            raise ModelError(f"{key!r} of {self.path} is in {str(value.dtype).removeprefix('torch.')}",
                             accepted="weights in float32, float16, bfloat16 or plain float8")
        return value.reshape(empty.shape).contiguous()

    def _check_used(self, name: str, module: Any, layout: Layout, used: Collection[str], folder: Path) -> None:
        """ModelError: tensors of a component that it has no place for, beside those that nothing computes with."""
        last = getattr(getattr(module, "config", None), "num_hidden_layers", None)
        cut = f"transformer.resblocks.{last}."  # Stable Diffusion 2 reads the last layer but one; folders leave it out
        left = [key for key in self.shapes if key not in used and _belongs(key, layout.prefix)
                and not _IDLE.fullmatch(key.removeprefix(layout.prefix))
                and not key.removeprefix(layout.prefix).startswith(cut)]
        if left:
            raise ModelError(f"{self.path} holds {len(left)} tensors that the {name} of {folder} has no place for, "
                             f"{left[0]!r} first", accepted="configs of the same model",
                             remedy="name the folder of the file's own model with --parts")

    def _check_rest(self) -> None:
        """Tell of tensors beside all components; they are not read."""
        known = (self.prefix, *_ELSEWHERE)
        left = [key for key in self.shapes if not key.startswith(known) and not _SCHEDULE.fullmatch(key)]
        if left:
            log.warning("%s holds %d tensors of no part of the model, %r first; they are not read", self.path,
                        len(left), left[0])


def lacking(file: SingleFile, missing: Collection[str], parts: Path | None) -> ModelError:
    """What to say where parts are in neither the file nor the folder, or there is no folder."""
    held = ", ".join(file.holds())
    if parts is None:
        more = [name for name in file.family.weighed if name not in file.holds()]
        needs = f", with the weights of {' and '.join(more)}" if more else ""
        fetch = _fetch(file.kind, ["*.json", "*.txt", "*.model", *(f"{name}/*" for name in more)], "FOLDER")
        return ModelError(
            f"{file.path} is a single file of {file.family.title}: it holds weights ({held}), but no configs and no "
            f"tokenizers", accepted=f"--parts FOLDER (parts=): a diffusers folder of the same family{needs}",
            remedy=f"such a folder comes by {fetch}")
    fetch = _fetch(file.kind, [f"{name}/*" for name in missing], str(parts))
    return ModelError(f"{file.path} holds {held}, and neither it nor {parts} has weights for {', '.join(missing)}",
                      accepted=f"weights for {', '.join(file.family.weighed)}",
                      remedy=f"bring them into the folder of --parts: {fetch}")


def _fetch(kind: str, patterns: Sequence[str], where: str) -> str:
    """The command of the Hub's own client that brings a family's files."""
    wanted = " ".join(f"'{pattern}'" for pattern in patterns)
    return f"hf download {REPOSITORIES[kind]} --include {wanted} --local-dir {where}"


def check_parts(file: SingleFile, kind: str, folder: Path) -> None:
    """ModelError: a folder of another family than the file's, or a schedule for another prediction."""
    if kind != file.kind:
        theirs = f"{FAMILIES[kind].title} ({kind})" if kind in FAMILIES else kind
        raise ModelError(f"{file.path} is a model of {file.family.title}, and {folder} one of {theirs}",
                         accepted=f"a folder of {file.kind}", remedy="name one with --parts")
    config = folder / "scheduler" / "scheduler_config.json"
    try:
        theirs = untrusted.mapping_of(config).get("prediction_type", "epsilon")
    except (OSError, ValueError) as error:
        raise ModelError(f"{config} is missing or damaged", accepted="a folder with the scheduler's config",
                         remedy="fetch the folder's small files again") from error
    predicted = file.predicts()
    if predicted and predicted != theirs and file.family.weighed[0] == "unet":
        raise ModelError(f"{file.path} says that it predicts {predicted}, and {folder} has a scheduler for {theirs}",
                         accepted="a folder of a model with the same prediction",
                         remedy="name one with --parts, or set prediction_type in its scheduler_config.json")


def without_values(folder: Path, named: Any) -> nn.Module:
    """A component whose parameters have no values (meta tensors), as a folder's config describes it.

    `named`: its library and class, as the folder's `model_index.json` has them. ModelError: no such config.
    """
    try:
        library, kind = named
        made = getattr({"diffusers": diffusers, "transformers": transformers}[library], kind)
        if library == "diffusers":
            config = made.load_config(folder, local_files_only=True)
        else:
            config = made.config_class.from_pretrained(folder, local_files_only=True)
        with runtime.without_weights():
            module: nn.Module = made.from_config(config) if library == "diffusers" else made(config)
        return module
    except Exception as error:  # whatever a missing or damaged config makes the libraries raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"{folder} does not describe the {folder.name}: {reason}",
                         accepted="a diffusers folder with a config for each part",
                         remedy="fetch its small files again: '*.json', '*.txt', '*.model'") from error


def _belongs(key: str, prefix: str) -> bool:
    """Whether a key is of the component with this prefix; without one, what is no other's is the network's."""
    if prefix:
        return key.startswith(prefix)
    return not key.startswith(_ELSEWHERE) and not _SCHEDULE.fullmatch(key)


def _squeezed(shape: torch.Size) -> tuple[int, ...]:
    """The shape without sides of 1 at its end: a convolution of one pixel is a matrix."""
    sides = [*shape]
    while len(sides) > 1 and sides[-1] == 1:
        sides.pop()
    return tuple(sides)
