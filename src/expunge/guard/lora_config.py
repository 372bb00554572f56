"""A user's LoRA, judged by its configuration before it trains: which of the UNet's tensors it would change.

The configuration is peft's `adapter_config.json`, which comes from somebody who is not trusted. It is read as peft
would read it: layers by ends of names, by a regular expression or "all-linear"; biases, parameters and whole modules
that it trains beside. Keys that only narrow it down (`layers_to_transform`) are passed over: it is judged as if it were
wider.

Source: ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from expunge import untrusted
from expunge.errors import UserError
from expunge.guard.enforce import lora_targets
from expunge.guard.naming import some
from expunge.models.model import Model
from expunge.records.freezing import FreezeMask

Targets = Sequence[str] | str
"""Ends of names, a regular expression over whole names, or "all-linear"."""
_ATOM = r"(?:[\w-]|\\[.dw_-]|\.|\[[^\[\]\\^]+\])"
_MANY = rf"(?:{_ATOM}[*+?]?)*"
_PLAIN = re.compile(rf"\^?(?:{_ATOM}[*+?]?|\((?:\?:)?{_MANY}(?:\|{_MANY})*\)\??)*\$?")
"""Expressions that repeat single characters alone, and whose groups hold no groups."""
_CHOICE = re.compile(r"(?<!\\d)(?<!\()[*+?]|\|")
"""Where a match has a choice; not in digits, of which names have one or two in a row."""
_CHOICES = 8
_WILD = re.compile(r"(?<!\\d)(?<!\\)[*+]")


@dataclass(frozen=True)
class LoraConfig:
    """What a LoRA's configuration trains.

    Attributes:
        targets: layers that the LoRA is put on; exclude: layers among them that it is not.
        saved: ends of names of modules that train as a whole. parameters: ends of names of parameters that a LoRA is
            put on. bias: which biases train: "none", "lora_only" (of its layers) or "all". lora_bias: whether the
            update has a bias.
    """

    targets: Targets
    exclude: Targets = ()
    saved: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    bias: str = "none"
    lora_bias: bool = False


def read_lora_config(path: str | Path) -> LoraConfig:
    """Read `adapter_config.json`.

    Raises:
        UserError: it cannot be read, is of another kind than LoRA, or names no modules.
    """
    try:
        fields: Any = untrusted.json_of(Path(path))
        if not isinstance(fields, dict):
            raise ValueError("it is no mapping")
        if fields.get("peft_type") not in (None, "LORA"):
            raise ValueError(f"peft_type is {fields['peft_type']!r}")
        parameters = _names(fields, "target_parameters")
        targets = fields.get("target_modules") or ()
        if not (targets or parameters) or not (isinstance(targets, str) or _are_names(targets)):
            raise ValueError(f"target_modules is {targets!r}")
        exclude = fields.get("exclude_modules") or ()
        if not (isinstance(exclude, str) or _are_names(exclude)):
            raise ValueError(f"exclude_modules is {exclude!r}")
        for expression in (targets, exclude):
            if isinstance(expression, str) and expression.lower() != "all-linear":
                _expression(expression)
        bias, lora_bias = fields.get("bias") or "none", fields.get("lora_bias") or False
        if bias not in ("none", "all", "lora_only") or not isinstance(lora_bias, bool):
            raise ValueError(f"bias is {bias!r}, lora_bias is {lora_bias!r}")
        return LoraConfig(targets if isinstance(targets, str) else tuple(targets),
                          exclude if isinstance(exclude, str) else tuple(exclude),
                          _names(fields, "modules_to_save"), parameters, bias, lora_bias)
    except UserError as error:
        raise UserError(f"{path}: {error.got}", error.accepted, error.remedy) from error
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"{path} is no configuration of a LoRA: {error}",
                        accepted="peft's adapter_config.json of a LoRA, with target_modules") from error


def check_lora(model: Model, mask: FreezeMask, asked: LoraConfig | Targets) -> list[str]:
    """The layers that a LoRA is put on.

    Args:
        asked: its configuration, or its targets alone.

    Raises:
        UserError: it would change a frozen tensor, or there is no layer that it is put on.
    """
    asked = asked if isinstance(asked, LoraConfig) else LoraConfig(asked)
    left_out = set(matching_layers(model.network, asked.exclude)) if asked.exclude else set()
    matched = matching_layers(model.network, asked.targets) if asked.targets else []
    layers = [name for name in matched if name not in left_out]
    names = [name.partition("/")[2] for name in model.parameters_of("denoiser")]
    direct = [name for name in names if _ends(name, asked.parameters)]
    if not layers and not direct:
        raise UserError(f"no layer of the UNet fits the targets {asked.targets!r}", accepted="ends of names such as "
                        "to_q, a regular expression over whole names, or all-linear")
    held = {name.partition("/")[2] for name in mask.frozen}
    on = [name for name in layers if f"{name}.weight" in held]
    if on:
        raise UserError(f"a LoRA on {len(on)} frozen layers ({some(on)})",
                        accepted=f"the {len(layers) - len(on)} layers among its {len(layers)} that are not frozen",
                        remedy="take `lora_targets` of what `expunge guard apply` writes as its target_modules")
    biases = {f"{name}.bias" for name in layers}
    touched = {
        "target_parameters": direct,
        "modules_to_save": [name for name in names if any(
            each.endswith(asked.saved) for each in _above(name))] if asked.saved else [],
        f"bias {asked.bias!r}": [name for name in names if (asked.bias == "all" and "bias" in name)
                                 or (asked.bias == "lora_only" and name in biases)],
        "lora_bias": sorted(biases) if asked.lora_bias else []}
    for key, changed in touched.items():
        frozen = [name for name in changed if name in held]
        if frozen:
            raise UserError(f"a LoRA whose {key} trains {len(frozen)} frozen tensors ({some(frozen)})",
                            accepted="one that trains no frozen tensor", remedy=f"leave out {key.split()[0]}")
    return layers


def matching_layers(unet: nn.Module, targets: Targets) -> list[str]:
    """Paths of the linear and convolutional layers that peft would put a LoRA on.

    Raises:
        UserError: a regular expression that is none, or that could take for ever.
    """
    if not isinstance(targets, str):
        try:
            return lora_targets(unet, None, targets)
        except UserError:
            return []
    if targets.lower() == "all-linear":
        return [name for name, layer in unet.named_modules() if isinstance(layer, nn.Linear)]
    pattern = _expression(targets)
    return [name for name, layer in unet.named_modules()
            if isinstance(layer, nn.Linear | nn.Conv2d) and pattern.fullmatch(name)]


def _expression(targets: str) -> re.Pattern[str]:
    """UserError: a regular expression that is none, or that could take for ever."""
    if len(targets) > 500 or not _PLAIN.fullmatch(targets) or len(_CHOICE.findall(targets)) > _CHOICES \
            or len(_WILD.findall(targets)) > 2:
        raise UserError(f"target_modules {targets[:80]!r}: an expression that could take for ever", accepted="a list "
                        "of names, or an expression without groups in groups or repeated groups, with two wildcards or "
                        f"less and {_CHOICES} choices or less", remedy="list the layers")
    try:
        return re.compile(targets)
    except (re.error, RecursionError, OverflowError) as error:
        raise UserError(f"target_modules {targets[:80]!r}: {error}", accepted="a regular expression, or a list"
                        ) from error


def _above(name: str) -> list[str]:
    """Paths of all modules that a parameter is in."""
    path = name.split(".")
    return [".".join(path[:end]) for end in range(1, len(path))]


def _ends(name: str, ends: Iterable[str]) -> bool:
    return any(name == end or name.endswith(f".{end}") for end in ends)


def _names(fields: dict[str, Any], key: str) -> tuple[str, ...]:
    value = fields.get(key) or ()
    if not _are_names(value):
        raise ValueError(f"{key} is {value!r}")
    return tuple(value)


def _are_names(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(each, str) and each for each in value)
