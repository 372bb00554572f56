"""The real tensors of a network under whatever was put around it, and whether the network uses them.

A patch names tensors as the plain network does. A pipeline in use may have them elsewhere:

| what was done | where the weights are | here |
| --- | --- | --- |
| `torch.compile`, DataParallel, any wrapper that holds the network whole | under a prefix | found |
| `add_adapter`, `load_lora_weights` (peft) | in `base_layer` | found; refused where a LoRA is merged into them |
| `enable_sequential_cpu_offload` (accelerate) | in the hook's map | found in memory, refused on disk |
| `fuse_qkv_projections` | used as copies, `to_qkv` and `to_kv` | found; `refresh_fused` makes the copies anew |

What is not found is refused, and what is found has to act: `answer` is a network's output for fixed inputs, to be
compared before and after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from expunge.errors import ModelError
from expunge.models.scope import full_name

_FUSED = (("to_qkv", ("to_q", "to_k", "to_v")), ("to_kv", ("to_k", "to_v")),
          ("to_added_qkv", ("add_q_proj", "add_k_proj", "add_v_proj")))
"""Fused projection of diffusers' attention -> the layers that it is made of, in their order."""
_OFFLOADED = "put the patch on before the weights are offloaded"


@dataclass(frozen=True)
class _Layer:
    """A module by its plain path, and whether a LoRA is merged into its weights."""

    path: str
    module: nn.Module
    merged: bool


def real_tensors(component: str, network: nn.Module, wanted: Mapping[str, Tensor], base: str = "the patch's own base"
                 ) -> dict[str, Tensor]:
    """For each wanted full name ("unet/...") the tensor that the network computes with, to be written in place.

    Args:
        base: what the patch was made on, for whoever has another model.

    Raises:
        ModelError: one is not there, has another shape, is offloaded to where it cannot be reached, or has a LoRA
            merged into it.
    """
    there = {f"{layer.path}.{name}" if layer.path else name: (layer, name) for layer in _layers(network)
             for name, value in layer.module._parameters.items() if value is not None}
    spelt = {full_name(component, name): place for name, place in there.items()}
    prefix = _prefix(component, [*there], [name for name in wanted if name not in spelt])
    found = {}
    for full, value in wanted.items():
        place = spelt.get(full) or there.get(f"{prefix}{full.partition('/')[2]}")
        if place is None:
            raise ModelError(f"the patch changes {full!r}, which this model does not have",
                             accepted=f"a pipeline whose {component} is the patch's own, of the same family",
                             remedy=f"put it on {base}")
        found[full] = _tensor(*place, full)
        if found[full].shape != value.shape:
            raise ModelError(f"the patch's {full!r} is {tuple(value.shape)}",
                             accepted=f"{tuple(found[full].shape)}, as in this model",
                             remedy=f"the patch was made on another model: put it on {base}"
                             if found[full].is_floating_point() else
                             "a quantised network keeps its weights in another shape: put the patch on before")
    return found


@torch.no_grad()
def refresh_fused(network: nn.Module) -> None:
    """Make every fused projection anew from the layers that it stands for."""
    for layer in _layers(network):
        if not getattr(layer.module, "fused_projections", False):
            continue
        for fused, parts in _FUSED:
            whole, each = _child(layer.module, fused), [_child(layer.module, part) for part in parts]
            if whole is None or any(one is None for one in each):
                continue
            for name in ("weight", "bias"):
                if whole._parameters.get(name) is None:
                    continue
                rows = [_tensor(_Layer("", one, False), name, fused) for one in each if one is not None]
                _tensor(_Layer("", whole, False), name, fused).copy_(torch.cat(rows))


def why_not_plain(component: str, network: nn.Module) -> tuple[str, str]:
    """What stands between a network's parameters and its output, and what to do about it; ("", "") where nothing does.

    A wrapper around the whole network is looked through.
    """
    for module in unwrapped(network).modules():
        if getattr(module, "fused_projections", False):
            return f"a {component} with fused projections", "call unfuse_qkv_projections() first"
        if "base_layer" in module._modules:
            return (f"a {component} with an adapter on it",
                    "call unload_lora_weights() first, or fuse_lora() and then unload_lora_weights() to keep it")
        if any(value is not None and value.is_meta for value in module._parameters.values()):
            return f"a {component} whose weights are offloaded (meta tensors)", "load it without offloading"
    return "", ""


def unwrapped(network: Any) -> Any:
    """The network (a module) under torch.compile, DataParallel, peft's model and peft's layers."""
    while True:
        inner = _inner(network)
        if inner is None:
            return network
        network = inner


@torch.no_grad()
def answer(component: str, network: nn.Module) -> Tensor:
    """The network's output for fixed inputs, float32 on the CPU; compiled networks are run uncompiled.

    Raises:
        ModelError: it does not run, or not on inputs of its family.
    """
    device = _device(network)
    try:
        with _eager():
            out = _text_states(network, device) if component.startswith("text_encoder") else _noise(network, device)
    except Exception as error:  # whatever a network of another kind or its hooks raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(f"the {component} does not run, so it cannot be seen whether a patch acts: {reason}",
                         accepted="a pipeline that draws",
                         remedy="put the patch on a freshly loaded pipeline") from error
    return out.float().cpu()


def _text_states(network: nn.Module, device: torch.device) -> Tensor:
    config = _config(network)
    length = min(16, getattr(config, "max_position_embeddings", 16))
    ids = torch.arange(length, device=device) * (config.vocab_size // length)
    states: Tensor = network(ids[None])[0]
    return states


def _noise(network: nn.Module, device: torch.device) -> Tensor:
    """The denoiser's answer to noise in the middle of the schedule, at a small size."""
    plain, config = unwrapped(network), _config(network)
    dtype = getattr(plain, "dtype", torch.float32)
    make = torch.Generator().manual_seed(0)
    normal = lambda *shape: torch.randn(shape, generator=make).to(device, dtype)
    if hasattr(config, "joint_attention_dim"):
        return _joint(network, normal)
    side, width = 2 ** max(3, len(config.block_out_channels)), config.cross_attention_dim
    more: dict[str, Any] = {}
    if getattr(config, "addition_embed_type", None) == "text_time":
        pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim
        more["added_cond_kwargs"] = {"text_embeds": normal(1, pooled), "time_ids": normal(1, 6)}
    width = width if isinstance(width, int) else width[0]
    out: Tensor = network(normal(1, config.in_channels, side, side), torch.tensor([500], device=device),
                          normal(1, 8, width), return_dict=False, **more)[0]
    return out


def _joint(network: nn.Module, normal: Callable[..., Tensor]) -> Tensor:
    """The same of a transformer with joint attention: of latents (Stable Diffusion 3), or of packed tokens (FLUX)."""
    config, heads = _config(network), 8
    states, pooled = normal(1, heads, config.joint_attention_dim), normal(1, config.pooled_projection_dim)
    more = {"encoder_hidden_states": states, "pooled_projections": pooled, "return_dict": False}
    half = torch.full_like(pooled[:, 0], 0.5)
    if not hasattr(config, "guidance_embeds"):
        side = 4 * config.patch_size
        noise = normal(1, config.in_channels, side, side)
        latents: Tensor = network(hidden_states=noise, timestep=1000 * half, **more)[0]
        return latents
    places = torch.zeros_like(states[0, :, :1]).repeat(1, 3)
    packed: Tensor = network(hidden_states=normal(1, heads, config.in_channels), timestep=half, txt_ids=places,
                             img_ids=places, guidance=1 + half if config.guidance_embeds else None, **more)[0]
    return packed


def _config(network: nn.Module) -> Any:
    return unwrapped(network).config


def _device(network: nn.Module) -> torch.device:
    """Where the network expects its inputs: where a hook says that it computes, else where its weights are."""
    for module in network.modules():
        hook = getattr(module, "_hf_hook", None)
        for one in (hook, *getattr(hook, "hooks", ())):
            if getattr(one, "execution_device", None) is not None:
                return torch.device(one.execution_device)
    return next((value.device for value in network.parameters() if not value.is_meta), torch.device("cpu"))


def _eager() -> AbstractContextManager[Any]:
    """Inside, compiled code is not used: compiling for one look would take minutes."""
    stance = getattr(torch.compiler, "set_stance", None)  # since torch 2.6
    return stance("force_eager") if stance is not None else nullcontext()


def _layers(network: nn.Module) -> Iterator[_Layer]:
    """Every module with its path in the plain network; what wraps one takes its place."""
    waiting = [("", network)]
    while waiting:
        path, module = waiting.pop()
        merged = bool(getattr(module, "merged", False)) and "base_layer" in module._modules
        module = unwrapped(module)
        yield _Layer(path, module, merged)
        waiting += [(f"{path}.{name}" if path else name, child)
                    for name, child in module._modules.items() if child is not None]


def _inner(module: nn.Module) -> nn.Module | None:
    """What the module is a wrapper of; None where it is a network or layer itself."""
    for name in ("_orig_mod", "base_layer"):  # torch.compile; a layer with an adapter
        if module._modules.get(name) is not None:
            return module._modules[name]
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        whole: nn.Module = module.module
        return whole
    tuner = module._modules.get("base_model") if hasattr(module, "peft_config") else None
    return None if tuner is None else tuner._modules.get("model") or tuner


def _prefix(component: str, there: list[str], missing: list[str]) -> str:
    """What an unknown wrapper puts before every name; "" where no single prefix explains all that is missing."""
    if not missing:
        return ""
    plain = [name.partition("/")[2] for name in missing]
    fits = {name.removesuffix(plain[0]) for name in there if name.endswith(f".{plain[0]}")}
    known = set(there)
    fits = {prefix for prefix in fits if all(f"{prefix}{name}" in known for name in plain)}
    return fits.pop() if len(fits) == 1 else ""


def _tensor(layer: _Layer, name: str, full: str) -> Tensor:
    """The tensor behind a parameter, also where the network itself holds an empty one."""
    if layer.merged:
        raise ModelError(f"a LoRA is merged into {full!r}: the patch would take it out again",
                         accepted="a pipeline with its own weights",
                         remedy="call unfuse_lora() first, put the patch on, and then fuse_lora()")
    value: Tensor = layer.module._parameters[name]  # type: ignore[assignment]
    if not value.is_meta:
        return value
    held = _held(getattr(layer.module, "_hf_hook", None), name)
    if held is None:
        raise ModelError(f"the values of {full!r} are offloaded to where they cannot be changed",
                         accepted="weights in memory", remedy=_OFFLOADED)
    return held


def _held(hook: Any, name: str) -> Tensor | None:
    """What accelerate's hook puts in a parameter's place before each call, if it lies in memory."""
    for one in (hook, *getattr(hook, "hooks", ())):
        key = name
        store: Any = getattr(one, "weights_map", None)
        while hasattr(store, "dataset") and hasattr(store, "prefix"):
            key, store = f"{store.prefix}{key}", store.dataset
        store = getattr(store, "state_dict", store)  # what a loader has in memory; the rest of it is on disk
        value = store.get(key) if isinstance(store, dict) else None
        if isinstance(value, Tensor) and not value.is_meta:
            return value
    return None


def _child(module: nn.Module, name: str) -> nn.Module | None:
    child = module._modules.get(name)
    return None if child is None else unwrapped(child)
