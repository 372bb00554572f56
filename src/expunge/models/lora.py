"""LoRA on a UNet: put on for training (by peft), written and read as files, merged into the weights.

    W' = W + strength * scale * B A,   scale = alpha / rank   (1 where a file names no alpha)

Files are safetensors in the format of diffusers ("unet.<layer>.lora_A.weight", in its older spellings too), of kohya
("lora_unet_<layer>.lora_down.weight" and ".alpha") or of ComfyUI, for the network and the text encoders of every family
(`models.lora_names`).

Source: Hu et al. 2021, section 4.1; names as in diffusers/utils/state_dict_utils.py and kohya-ss networks/lora.py.
Differs: DoRA, LoHa, LoKr and other relatives are refused, not approximated.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from expunge import untrusted
from expunge.config import Settings, knob
from expunge.errors import ModelError, UserError, install
from expunge.files import file_digest, write_tensors
from expunge.models.base import Denoiser
from expunge.models.lora_names import family_told, names_of
from expunge.models.model import Model
from expunge.models.patch import A, Patch
from expunge.models.scope import full_name, full_names
from expunge.train import step_generator

_ADAPTER = "expunge"
"""Name under which peft keeps our LoRA."""
_METADATA = "lora_adapter_metadata"
_USUAL_FILE = "pytorch_lora_weights.safetensors"
_PART = re.compile(r"(?P<layer>.+?)(?:\.lora_(?P<ab>[AB])|[._]lora(?:_linear_layer)?[._](?P<way>down|up))\.weight")


class Lora(Settings):
    """A low-rank update of the UNet's layers, in the making; the weights themselves stay."""

    rank: int = knob(4, "rank of the update", ge=1, source="train_text_to_image_lora.py --rank")
    alpha: float = knob(4.0, "the update is scaled by alpha / rank", gt=0.0)
    targets: tuple[str, ...] = knob(("to_q", "to_k", "to_v", "to_out.0"), "ends of the names of its layers",
                                    min_length=1, source="train_text_to_image_lora.py")


@contextmanager
def with_lora(model: Model, lora: Lora, *, seed: int = 0, frozen: Collection[str] = ()
              ) -> Iterator[dict[str, Parameter]]:
    """Inside, the UNet has a new LoRA, whose parameters are yielded by full name; afterwards it is as it was.

    A is uniform as in the paper's code, from `seed`; B is zero, so that nothing changes before a step.

    Args:
        frozen: full names of weights; no LoRA is put on their layers.

    Raises:
        UserError: peft is not installed, or no layer's name ends in one of the targets.
    """
    layers = _layers(model, lora, frozen)
    flags = {name: p.requires_grad for name, p in model.network.named_parameters()}
    try:
        if layers:
            with torch.random.fork_rng():  # peft starts A from the global generator
                config = peft().LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=layers)
                peft().inject_adapter_in_model(config, model.network, _ADAPTER)
        params = {name: p for name, p in model.parameters_of("denoiser").items() if f".{_ADAPTER}." in name}
        _start(params, seed)
        yield params
    finally:
        if layers:
            _take_off(model.network)
        for name, p in model.network.named_parameters():
            p.requires_grad_(flags[name])


@contextmanager
def with_adapters(components: Mapping[str, nn.Module], layers: Collection[str], rank: int, *, seed: int = 0
                  ) -> Iterator[Adapters]:
    """Inside, the layers have a LoRA each, of any component; afterwards the networks are as they were.

    Factors are in float32 in a model of any number type; A and B begin as `with_lora` has them.

    Args:
        components: a model's networks by name.
        layers: full names of the weights of linear and convolutional layers ("unet/....weight").

    Raises:
        UserError: peft is not installed.
    """
    package, parts, flags = peft(), dict.fromkeys(name.partition("/")[0] for name in layers), {}
    try:
        for component in parts:
            network = components[component]
            flags.update({id(p): (p, p.requires_grad) for p in network.parameters()})
            paths = [path for path, _ in network.named_modules() if full_name(component, f"{path}.weight") in layers]
            config = package.LoraConfig(r=rank, lora_alpha=rank,
                                        target_modules=f"(?:{'|'.join(map(re.escape, paths))})")
            with torch.random.fork_rng():  # peft starts A from the global generator
                package.inject_adapter_in_model(config, network, _ADAPTER)
        params = {full: p for component in parts for full, p in full_names(component, components[component]).items()
                  if f".{_ADAPTER}." in full}
        for p in params.values():
            p.data = p.data.float()
        _start(params, seed)
        put = [module for component in parts for module in components[component].modules()
               if isinstance(module, package.tuners.tuners_utils.BaseTunerLayer)]
        yield Adapters({name.replace(f".{_ADAPTER}.", "."): p for name, p in params.items()}, put)
    finally:
        for component in parts:
            _take_off(components[component])
            components[component].__dict__.pop("peft_config", None)  # peft leaves it and warns at the next LoRA
        for p, flag in flags.values():
            p.requires_grad_(flag)


@dataclass(frozen=True)
class Adapters:
    """LoRAs on layers.

    Attributes:
        params: factors by full name ("unet/<layer>.lora_A.weight"). layers: what holds them.
    """

    params: Mapping[str, Parameter]
    layers: Sequence[Any]

    @contextmanager
    def off(self) -> Iterator[None]:
        """Inside, the layers compute without them, bit for bit as before."""
        for layer in self.layers:
            layer.enable_adapters(False)
        try:
            yield
        finally:
            for layer in self.layers:
                layer.enable_adapters(True)

    @contextmanager
    def computing_with(self, stand_ins: Mapping[str, Tensor]) -> Iterator[None]:
        """Inside, the layers compute with other tensors in the factors' places (by full name)."""
        instead = {id(self.params[name]): tensor for name, tensor in stand_ins.items()}
        places: list[tuple[dict[str, Any], str]] = [
            (module._parameters, name) for layer in self.layers for module in layer.modules()
            for name, p in module._parameters.items() if id(p) in instead]
        own = [held[name] for held, name in places]
        try:
            for (held, name), p in zip(places, own, strict=True):
                held[name] = instead[id(p)]
            yield
        finally:
            for (held, name), p in zip(places, own, strict=True):
                held[name] = p


def layers_of(components: Mapping[str, nn.Module], weights: Collection[str]) -> tuple[str, ...]:
    """Those of the weights (full names) that a LoRA can be put on: of linear and convolutional layers."""
    return tuple(full for component, network in components.items() for path, module in network.named_modules()
                 if isinstance(module, (nn.Linear, nn.Conv2d))
                 and (full := full_name(component, f"{path}.weight")) in weights)


def _take_off(network: nn.Module) -> None:
    """Put the layers back that peft has wrapped."""
    from diffusers.utils.peft_utils import recurse_remove_peft_layers  # here alone: settings and `--help` do without

    recurse_remove_peft_layers(network)


def peft() -> Any:
    """The package peft.

    Raises:
        UserError: it is not installed.
    """
    try:
        import peft as package
    except ImportError as error:
        raise UserError("training a LoRA needs the package peft, which is not installed",
                        remedy=f"{install('lora')}, or train something else than a LoRA") from error
    return package


def save_lora(path: Path, params: Mapping[str, Tensor], lora: Lora) -> Path:
    """Write the parameters that `with_lora` gave as a file that `pipe.load_lora_weights(path)` reads."""
    tensors = {name.replace("/", ".", 1).replace(f".{_ADAPTER}.", "."): p.detach().cpu().contiguous()
               for name, p in params.items()}
    component = next(iter(params)).partition("/")[0]
    layers = sorted({name.removeprefix(f"{component}.").partition(".lora_")[0] for name in tensors})
    about = {f"{component}.r": lora.rank, f"{component}.lora_alpha": lora.alpha,
             f"{component}.target_modules": layers}
    write_tensors(path, tensors, {"format": "pt", _METADATA: json.dumps(about, sort_keys=True)})
    return path


def write_lora(folder: Path, patch: Patch, loadable: Collection[str], spelt: Mapping[str, str]) -> Path:
    """Write a patch of kind "lora" as `pytorch_lora_weights.safetensors`, for `pipe.load_lora_weights(folder)`.

    Args:
        loadable: components whose LoRA the pipeline loads. spelt: layers' paths in the networks by their full names.

    Raises:
        UserError: a patch of another kind, or of a component that the pipeline loads no LoRA for.
    """
    if patch.card.kind != "lora":
        raise UserError(f"a patch of kind {patch.card.kind!r} as a LoRA", accepted="a patch of kind 'lora'",
                        remedy="make the edit with --lora-rank, or merge it into the whole model")
    parts = {name.partition("/")[0] for name in patch.tensors}
    if other := sorted(parts - {*loadable}):
        raise UserError(f"a LoRA of the {other[0]}", accepted=f"of {', '.join(loadable)}: diffusers loads no "
                        "other here", remedy="merge it into the whole model")
    tensors, about, ranks = {}, dict[str, Any](), dict[str, int]()
    for name, factor in patch.tensors.items():
        layer, end = name[:-len(A)], name[-len(A):]
        component, _, path = f"{layer.partition('/')[0]}.{spelt[layer]}".partition(".")
        tensors[f"{component}.{path}{end}"] = factor
        about.setdefault(f"{component}.target_modules", set()).add(path)
        if end == A:
            ranks[component] = len(factor)
    for component, rank in ranks.items():
        about |= {f"{component}.r": rank, f"{component}.lora_alpha": patch.card.scale * rank,
                  f"{component}.target_modules": sorted(about[f"{component}.target_modules"])}
    write_tensors(folder / _USUAL_FILE, tensors, {"format": "pt", _METADATA: json.dumps(about, sort_keys=True)})
    return folder / _USUAL_FILE


@dataclass(frozen=True)
class LoraFile:
    """A LoRA as read: for each weight's full name its factors, scale included in `up`: (r, in, ...) and (out, r, ...).

    `family` is whose it seems to be, in words; "" where nothing tells.
    """

    path: Path
    factors: Mapping[str, tuple[Tensor, Tensor]]
    family: str = ""

    def deltas(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The change of each weight, in its shape and on its device.

        Raises:
            ModelError: a layer that the model does not have, or that has another shape.
        """
        out, seems = {}, f" (a LoRA for {self.family}, it seems)" if self.family else ""
        for name, (down, up) in self.factors.items():
            if name not in weights:
                raise ModelError(f"{self.path} changes {name!r}, which this model does not have",
                                 accepted="a LoRA for the same family of models")
            weight = weights[name]
            inner = down.flatten(1)
            if up.flatten(1).shape[1] != len(down) or (len(up), inner.shape[1]) != (len(weight), weight[0].numel()):
                raise ModelError(f"{self.path}{seems}: the factors of {name!r} are {tuple(down.shape)} and "
                                 f"{tuple(up.shape)}", accepted=f"factors of a {tuple(weight.shape)}, as in this model")
            out[name] = (up.flatten(1) @ inner).reshape(weight.shape).to(weight)
        return out


def lora_path(path: str | Path) -> Path:
    """The LoRA's file: `path` itself, or `pytorch_lora_weights.safetensors` in the folder `path`.

    Raises:
        ModelError: there is none, or it is no safetensors file.
    """
    file = Path(path).expanduser()
    file = file / _USUAL_FILE if file.is_dir() else file
    if not file.is_file():
        raise ModelError(f"no LoRA at {path}", accepted=f"a .safetensors file, or a folder with {_USUAL_FILE}")
    if file.suffix != ".safetensors":
        raise ModelError(f"{file.name} is no safetensors file: a pickle file runs code when it is opened",
                         accepted="a .safetensors file", remedy="ask for the LoRA in safetensors")
    return file


def read_lora(path: str | Path, model: Model | Denoiser) -> LoraFile:
    """Read a LoRA for `model`; see `lora_path`.

    Raises:
        ModelError: missing, damaged, pickled, no LoRA, or one of a kind that is not known; half a pair of factors; a
            layer that the model does not have.
    """
    file = lora_path(path)
    try:
        with untrusted.tensors(file) as opened:
            metadata = dict(opened.metadata() or {})
            about = untrusted.json_in(metadata.get(_METADATA, "{}"))
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dict)
        if odd := untrusted.unlike_weights({name: str(tensor.dtype) for name, tensor in tensors.items()}):
            raise untrusted.Unreadable(odd)
    except (OSError, ValueError) as error:
        raise ModelError(f"{file} cannot be read: {error}", remedy="fetch the file again") from error
    try:
        return _Reader(file, model.denoiser if isinstance(model, Model) else model, metadata, about).read(tensors)
    except (AttributeError, IndexError, TypeError, ValueError, RuntimeError) as error:  # shapes and metadata of no LoRA
        raise ModelError(f"{file} is no LoRA that can be read: {error}",
                         accepted="LoRA files of diffusers, peft or kohya", remedy="fetch the file again") from error


@torch.no_grad()
def merged(denoiser: Denoiser, lora: str | Path, weight: float) -> str:
    """Merge a LoRA into the networks, in place; what records call it: its file's name, content and weight.

    Weights that it changes are in float32 afterwards, whatever they were in: what a folder and a file in half precision
    become is then one model.

    Raises:
        ModelError: as `read_lora` and `LoraFile.deltas`, or weights that are not finite with it.
        UserError: it changes nothing.
    """
    file = read_lora(lora, denoiser)
    held = {full_name(component, path): (module, path) for component, module in denoiser.components.items()
            if denoiser.roles[component] != "autoencoder" for path, _ in module.named_parameters()}
    before = {name: held[name][0].get_parameter(held[name][1]).float() for name in file.factors}
    deltas = file.deltas(before)
    if not any(bool(delta.any()) for delta in deltas.values()):
        raise UserError(f"merging {file.path.name} changes nothing: every update of its {len(deltas)} layers is zero",
                        accepted="a LoRA that was trained")
    now = {name: before[name] + weight * delta for name, delta in deltas.items()}
    if broken := [name for name, value in now.items() if not bool(value.isfinite().all())]:
        raise ModelError(f"{file.path.name} at {weight:g} makes {broken[0]!r} not finite ({len(broken)} of {len(now)} "
                         "layers)", accepted="a LoRA and a weight with which every number is finite",
                         remedy="fetch the file again, or take a smaller weight")
    if all(value.equal(before[name]) for name, value in now.items()):
        raise UserError(f"merging {file.path.name} at {weight:g} changes no weight of its {len(now)} layers",
                        accepted="a weight at which it does")
    for name, value in now.items():
        module, path = held[name]
        layer, _, end = path.rpartition(".")
        setattr(module.get_submodule(layer), end, Parameter(value, requires_grad=False))
    return f"{file.path.name}@{file_digest(file.path)[:8]} at {weight:g}"


@dataclass
class _Reader:
    """Names of one file's tensors, translated into full names of the model's weights."""

    file: Path
    denoiser: Denoiser
    metadata: Mapping[str, str]
    about: Mapping[str, Any]

    def read(self, tensors: Mapping[str, Tensor]) -> LoraFile:
        pairs: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            layer, part = self.parsed(name)
            pairs.setdefault(layer, {})[part] = tensor.float()
        if not pairs:
            raise ModelError(f"{self.file} holds no tensors", accepted="a LoRA")
        table, out = names_of(self.denoiser), dict[str, tuple[Tensor, Tensor]]()
        family = family_told(pairs, self.metadata)
        self.check_known([layer for layer in pairs if layer not in table], len(pairs), family)
        for layer, pair in pairs.items():
            if not {"down", "up"} <= pair.keys():
                raise ModelError(f"{self.file} holds only {' and '.join(sorted(pair))} of {layer!r}",
                                 accepted="both factors of every layer", remedy="fetch the file again")
            if not len(pair["down"]):
                raise ModelError(f"{self.file} changes {layer!r} by factors of rank 0, which is no change",
                                 accepted="a rank of 1 at least in every layer", remedy="fetch the file again")
            for target in table[layer]:
                full = f"{full_name(target.component, target.path)}.weight"
                if full in out:
                    raise ModelError(f"{self.file} changes {full!r} twice, under two names",
                                     accepted="one update of every layer")
                rows = len(self.denoiser.components[target.component].get_parameter(f"{target.path}.weight"))
                scale = self.scale(target.component, target.path, len(pair["down"]), pair.get("alpha"))
                out[full] = pair["down"], scale * target.up(pair["up"], rows)
        return LoraFile(self.file, out, family)

    def check_known(self, unknown: Sequence[str], count: int, family: str) -> None:
        """ModelError: layers that the model does not have; none is left out in silence."""
        if unknown:
            other = family and not self.denoiser.family.startswith(family)
            seems = f"; it seems to be a LoRA for {family}" if other else ""
            raise ModelError(f"{self.file} changes {unknown[0]!r}, which this model does not have ({len(unknown)} of "
                             f"its {count} layers){seems}",
                             accepted=f"a LoRA for the same family of models, {self.denoiser.family}")

    def parsed(self, name: str) -> tuple[str, str]:
        """ "unet.mid.to_q.lora_A.weight" -> ("unet.mid.to_q", "down"); the part may also be "up" or "alpha"."""
        match = _PART.fullmatch(name)
        if match:
            layer, part = match["layer"], match["way"] or {"A": "down", "B": "up"}[match["ab"]]
        elif name.endswith(".alpha"):
            layer, part = name.removesuffix(".alpha"), "alpha"
        else:
            raise ModelError(f"{self.file} holds {name!r}, which is no part of a plain LoRA",
                             accepted="LoRA files of diffusers or kohya (no DoRA, LoHa, LoKr)")
        if ".processor." in layer:  # the spelling of early diffusers: attn1.processor.to_out_lora.down.weight
            layer = layer.replace(".processor.", ".")
            layer = f"{layer}.0" if layer.endswith(".to_out") else layer
        return layer, part

    def scale(self, component: str, path: str, rank: int, alpha: Tensor | None) -> float:
        """The layer's own alpha, or the one that the file's metadata tells, over the rank."""
        if alpha is not None:
            return float(alpha) / rank
        scales = {key.removeprefix(f"{component}."): value for key, value in self.about.items()
                  if key.startswith(f"{component}.")}
        value = (scales.get("alpha_pattern") or {}).get(path, scales.get("lora_alpha"))
        if value is None:
            return 1.0
        return float(value) / (math.sqrt(rank) if scales.get("use_rslora") else rank)


def _layers(model: Model, lora: Lora, frozen: Collection[str]) -> list[str]:
    layers = [name for name, module in model.network.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))
              and any(name == end or name.endswith(f".{end}") for end in lora.targets)]
    if not layers:
        raise UserError(f"no layer's name ends in {' or '.join(lora.targets)}",
                        accepted="ends of names of the UNet's linear and convolutional layers, such as to_q or conv1")
    return [name for name in layers if f"{model.network_name}/{name}.weight" not in frozen]


@torch.no_grad()
def _start(params: Mapping[str, Parameter], seed: int) -> None:
    for name, p in params.items():
        if ".lora_A." in name:
            bound = 1 / math.sqrt(p[0].numel())
            p.copy_((torch.rand(p.shape, generator=step_generator(seed, 0, name)) * 2 - 1) * bound)
