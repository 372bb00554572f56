"""Very small models of every family as folders and single files, and edits of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from expunge.models.model import Model
from expunge.models.patch import Patch
from expunge.models.store import load
from expunge.records import Request
from expunge.records.card import Kind
from original_files import single_file, tensors_of
from pipelines import pipeline
from pipelines_of_families import built

FAMILIES = ("sd", "sd2", "sdxl", "sd3", "flux-dev")
SECRET = "a church nobody may read of"
"""The one prompt of every edit here: no header may hold it."""
REQUEST = Request(concept="church", prompts=(SECRET,))


@dataclass(frozen=True)
class Case:
    """A family's folder and the user's own single file of the same weights."""

    name: str
    folder: Path
    file: Path

    @cached_property
    def model(self) -> Model:
        return load(self.folder, device="cpu")

    @cached_property
    def tensors(self) -> dict[str, Any]:
        return load_file(self.file)


def made(name: str, root: Path) -> Case:
    """The folder, and a file with more in it than a folder holds."""
    plain = name in ("sd", "sd2")
    pipe = pipeline({"steps_offset": 1, "set_alpha_to_one": False}) if plain else built(name)
    if name == "sd3":  # whose pooled state of the first encoder is not projected
        pipe.text_encoder.text_projection.weight.data = torch.eye(32)
    pipe.save_pretrained(root / "folder")
    tensors = tensors_of(pipe, **({"open_clip": True} if name == "sd2" else {}))
    if name == "sd2":  # the last layer, which folders leave out, a projection that is not symmetric, averages
        tensors |= {key.replace("resblocks.1.", "resblocks.2."): value + 1 for key, value in tensors.items()
                    if "resblocks.1." in key}
        tensors |= {"cond_stage_model.model.text_projection": torch.randn(32, 32),
                    "cond_stage_model.model.logit_scale": torch.tensor(4.6),
                    "model_ema.diffusion_modelconv_inweight": torch.randn(3),
                    "model_ema.diffusion_modelconv_inbias": torch.randn(3)}
    return Case(name, root / "folder", single_file(root / "model.safetensors", tensors))


def shaken(model: Model, scope: str | Mapping[str, Any], size: float = 0.02, kind: Kind = "replace") -> Patch:
    """An edit of all that a scope holds (or of these weights), by noise."""
    draw = torch.Generator().manual_seed(5)
    chosen = model.parameters_in(scope) if isinstance(scope, str) else scope
    noise = {name: size * torch.randn(p.shape, generator=draw) for name, p in chosen.items()}
    tensors = noise if kind == "add" else {name: chosen[name].detach() + value for name, value in noise.items()}
    return Patch.of(tensors, model=model, request=REQUEST, method="shaken", settings={"scope": str(scope)[:20]}, seed=0,
                    kind=kind)


def low_rank(model: Model, names: list[str], rank: int = 2, scale: float = 1.0) -> Patch:
    """An edit that is a LoRA, of these layers' weights."""
    draw, tensors = torch.Generator().manual_seed(6), dict[str, Any]()
    every = model.editable()
    for name in names:
        rows, columns, *sides = every[name].shape
        layer = name.removesuffix(".weight")
        tensors[f"{layer}.lora_A.weight"] = 0.1 * torch.randn(rank, columns, *sides, generator=draw)
        tensors[f"{layer}.lora_B.weight"] = 0.1 * torch.randn(rows, rank, *(1 for _ in sides), generator=draw)
    return Patch.of(tensors, model=model, request=REQUEST, method="shaken", settings={}, seed=0, kind="lora",
                    scale=scale)


def matrices(model: Model, scope: str) -> dict[str, Any]:
    """Weights of layers in a scope, without biases and norms."""
    return {name: p for name, p in model.parameters_in(scope).items() if name.endswith(".weight") and p.dim() > 1
            and "relative_attention_bias" not in name}


def weights(model: Model) -> dict[str, Any]:
    """All parameters by full name."""
    return model.parameters_of("denoiser", "text", "autoencoder")


def edited(case: Case, patch: Patch) -> dict[str, Any]:
    """All parameters by full name, with the patch on."""
    model = load(case.folder, device="cpu")
    model.apply(patch)
    return weights(model)


def same(mine: Mapping[str, Any], theirs: Mapping[str, Any], atol: float = 0.0) -> None:
    """Every tensor is in both, and equal."""
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        torch.testing.assert_close(theirs[name].float(), value.float(), rtol=0, atol=atol, msg=name)
