"""Which parameters train: scopes named by role, selected by module and never by a prefix of a name.

| scope | what | elsewhere |
| --- | --- | --- |
| `xattn` | linear layers of the UNet's cross-attention (`attn2`) | esd-x |
| `xattn.kv` | `attn2.to_k` and `attn2.to_v` | esd-x-strict, UCE |
| `xattn.k`, `xattn.v` | one of the two | SPEED and OCE: `xattn.v` |
| `xattn.q` | `attn2.to_q` | |
| `selfattn` | linear layers of self-attention (`attn1`) | esd-selfattn |
| `visual` | `selfattn` and `xattn.q`: what sees the image and no text | TRCE, stage 2 |
| `noxattn` | the UNet's linear and convolutional layers outside `attn2` | esd-u |
| `unet` | all linear and convolutional layers of the denoiser, whatever it is | esd-all |
| `text` | the text encoders' transformer layers and final norms; embeddings stay frozen | AdvUnlearn, full |
| `text.layers:0-2`, `text.layers:5` | whole transformer layers, both ends included | AdvUnlearn, layers |
| `pooled` | layers through which the pooled text state enters (Stable Diffusion XL) | |
| `text1`, `text2.layers:0-2` | one encoder of several: `text_encoder`, `text_encoder_2`, ... | |
| `all` | `unet` and `text` | |
| `visual+xattn.kv` | several of these at once | |

The first seven are a UNet's (`UNET`); other families bring tables of their own (`models.joint_attention`). Names are
"unet/<parameter>", "text_encoder/<parameter>" and so on, by component. Transformers has spelt text encoders' parameters
with and without a leading "text_model."; ours are always without, so that patches and hashes outlive its versions.

Source: Gandikota et al. 2023 (ESD), section 4.1, and `esd_sd.py`@25613d2:24-47. Differs: esd-u of the
older CompVis script also leaves out the time embedding and the last convolution.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping

from torch import nn
from torch.nn import Parameter

from expunge.errors import UserError

Rule = Callable[[list[str]], bool]
"""Whether a scope holds a layer of the denoiser, by the parts of the layer's path."""

_TEXT = re.compile(r"text([1-9]?)(?:\.layers:(\d+)(?:-(\d+))?)?")
_NORMS = ("final_layer_norm.", "encoder.final_layer_norm.")
_TRAINABLE = (nn.Linear, nn.Conv1d, nn.Conv2d)

UNET: Mapping[str, Rule] = {
    "xattn": lambda path: "attn2" in path,
    "xattn.kv": lambda path: path[-2:] in (["attn2", "to_k"], ["attn2", "to_v"]),
    "xattn.k": lambda path: path[-2:] == ["attn2", "to_k"],
    "xattn.v": lambda path: path[-2:] == ["attn2", "to_v"],
    "xattn.q": lambda path: path[-2:] == ["attn2", "to_q"],
    "selfattn": lambda path: "attn1" in path,
    "visual": lambda path: "attn1" in path or path[-2:] == ["attn2", "to_q"],
    "noxattn": lambda path: "attn2" not in path,
}
"""Scopes of diffusers' UNets."""
_WHOLE: Mapping[str, Rule] = {"unet": lambda path: True, "all": lambda path: True}


def full_names(component: str, module: nn.Module) -> dict[str, Parameter]:
    """All parameters of a component by their full, version-independent names."""
    return {full_name(component, name): parameter for name, parameter in module.named_parameters()}


def full_name(component: str, name: str) -> str:
    """ "text_encoder", "text_model.final_layer_norm.bias" -> "text_encoder/final_layer_norm.bias" """
    return f"{component}/{name.removeprefix('text_model.') if component.startswith('text_encoder') else name}"


def known(table: Mapping[str, Rule]) -> tuple[str, ...]:
    """Scopes of a family with this table, as a person would type them."""
    return (*table, "unet", "text", "text.layers:FIRST-LAST", "all")


def select(component: str, network: nn.Module, table: Mapping[str, Rule], texts: Mapping[str, nn.Module], scope: str
           ) -> dict[str, Parameter]:
    """The parameters of `scope` by full name, in the order in which the modules hold them.

    Args:
        component: the denoiser's, whose network is `network`; table: its scopes. texts: text encoders by component.
        scope: one scope, or several joined by "+".

    Raises:
        UserError: unknown scope, text layers that no encoder has, or a scope that selects nothing.
    """
    several = scope.split("+")
    if len(several) > 1:
        mine = {name for one in several for name in select(component, network, table, texts, one.strip())}
        return {name: parameter for name, parameter in select(component, network, table, texts, "all").items()
                if name in mine}
    names, rules = known(table), {**table, **_WHOLE}
    if scope not in rules and not _TEXT.fullmatch(scope):
        close = difflib.get_close_matches(scope, names, n=1, cutoff=0.5)
        raise UserError(f"unknown scope {scope!r}", accepted=", ".join(names),
                        remedy=f"did you mean {close[0]!r}?" if close else "")
    found: dict[str, Parameter] = {}
    if scope in rules:
        found |= _layers(component, network, rules[scope])
    match = _TEXT.fullmatch("text" if scope == "all" else scope)
    if match:
        asked = f"text_encoder_{match[1]}".removesuffix("_1").removesuffix("_")
        for name, encoder in texts.items():
            if not match[1] or name == asked:
                found |= _text(name, encoder, scope, match)
    if not found:
        raise UserError(f"scope {scope!r} selects nothing in this model", accepted=", ".join(names))
    return found


def _layers(component: str, network: nn.Module, rule: Rule) -> dict[str, Parameter]:
    return {full_name(component, f"{name}.{part}" if name else part): parameter
            for name, module in network.named_modules()
            if isinstance(module, _TRAINABLE) and rule(name.split("."))
            for part, parameter in module.named_parameters(recurse=False)}


def _text(component: str, encoder: nn.Module, scope: str, match: re.Match[str]) -> dict[str, Parameter]:
    every = full_names(component, encoder)
    layer_of = {name: _layer(name) for name in every}
    if not match[2]:
        return {name: parameter for name, parameter in every.items()
                if layer_of[name] is not None or name.removeprefix(f"{component}/").startswith(_NORMS)}
    first, last = int(match[2]), int(match[3] or match[2])
    count = 1 + max((layer for layer in layer_of.values() if layer is not None), default=-1)
    if not first <= last < count:
        raise UserError(f"scope {scope!r}: the text encoder has {count} layers",
                        accepted=f"text.layers:FIRST-LAST within 0-{count - 1}")
    return {name: parameter for name, parameter in every.items()
            if (layer := layer_of[name]) is not None and first <= layer <= last}


def _layer(name: str) -> int | None:
    """Number of the transformer layer that a full name belongs to, None outside the layers."""
    path = name.partition("/")[2].split(".")
    return int(path[2]) if path[:2] in (["encoder", "layers"], ["encoder", "block"]) else None
