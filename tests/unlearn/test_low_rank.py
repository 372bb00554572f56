"""Edits by LoRA: the teacher is the adapter switched off, the patch is factors, and what cannot is refused first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from test_change import answered
from test_presets import REQUEST as ANCHORED
from test_presets import method_of
from test_recipe import REQUEST, SMALL, everything, same

from expunge.errors import ConfigError, UserError
from expunge.models.lora import layers_of
from expunge.models.model import applied
from expunge.models.patch import Patch
from expunge.models.pipeline import load_into_pipeline
from expunge.models.store import load, merge
from expunge.registry import METHODS
from expunge.unlearn.change import low_rank
from expunge.unlearn.erase import resolve_method
from expunge.unlearn.past import PriorEdits
from expunge.unlearn.presets.by_family import suited
from expunge.unlearn.recipe import Recipe
from pipelines_of_families import BUILDERS, built, taken

LOW = SMALL.override({"lora_rank": 2})
TRAINS = [name for name in METHODS.names() if isinstance(METHODS.get(name), Recipe)]
WHOLE = {"salun", "salun-fast"}


def model_of(name: str, folder: Path) -> Any:
    if name in ("tiny", "bfloat16"):
        return load(folder, device="cpu", dtype="float32" if name == "tiny" else name)
    return taken(built(name), **({} if name.startswith("sdxl") else {"length": 24}))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny", "bfloat16", *BUILDERS])
@pytest.mark.parametrize("scope", ["unet", "text"])
def test_the_teacher_is_the_adapter_switched_off_bit_for_bit(name: str, scope: str, pipeline_folder: Path) -> None:
    model = model_of(name, pipeline_folder)
    before, weights = answered(model), everything_of(model)
    with low_rank(model, layers_of(model.components, model.parameters_in(scope)), 2, seed=0) as change:
        assert torch.equal(answered(model), before)
        assert not change.made().tensors
        with torch.no_grad():
            for p in change.params.values():
                p.add_(0.3)
        assert {p.dtype for p in change.params.values()} == {torch.float32}
        assert torch.equal(answered(change.teacher(model)), before)
        assert not torch.equal(answered(model), before)
    assert torch.equal(answered(model), before)
    assert same(everything_of(model), weights)


def everything_of(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.parameters_of("denoiser", "text", "autoencoder").items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINS)
def test_every_method_that_trains_does_so_by_lora_or_says_why_not(model: Any, name: str) -> None:
    method, before = method_of(name).override({"lora_rank": 2}), everything(model)
    if name in WHOLE:
        with pytest.raises(ConfigError, match="a LoRA with 'masked': it chooses single weights"):
            method(model, ANCHORED)
        return
    patch = method(model, ANCHORED, seed=3)
    assert patch.card.kind == "lora"
    assert all(name.endswith(("lora_A.weight", "lora_B.weight")) for name in patch.tensors)
    assert {*patch.weights} <= {*model.parameters_in(method.scope)}
    assert same(everything(model), before)


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILDERS)
def test_every_family_is_edited_by_lora_and_draws_otherwise(name: str, pipeline_folder: Path) -> None:
    model = model_of(name, pipeline_folder)
    method = resolve_method("esd-fast")
    scope = suited(method, "esd-fast", {}, model).get("scope", "xattn")
    guidance = 1.0 if model.denoiser.guided == "none" else 2.0
    patch = LOW.override({"scope": scope, "steps": 2, "source.guidance": guidance})(model, REQUEST)
    before = answered(model)
    with applied(model, patch):
        assert not torch.equal(answered(model), before)
    assert torch.equal(answered(model), before)


@pytest.mark.parametrize("update", ["masked", "projected", "refresh"])
def test_updates_of_single_weights_are_refused_with_the_reason(model: Any, update: str) -> None:
    with pytest.raises(ConfigError, match=f"a LoRA with '{update}': it"):
        LOW.override({"update": update}).check(model, REQUEST)


def test_scopes_without_layers_closed_forms_and_sequences_are_refused(model: Any) -> None:
    with pytest.raises(ConfigError, match="solves for whole weights and trains nothing"):
        resolve_method("uce", {"lora_rank": 4})
    with pytest.raises(ConfigError, match="lora_rate without lora_rank"):
        SMALL.override({"lora_rate": 3.0})
    past: PriorEdits = object()  # type: ignore[assignment]
    with pytest.raises(ConfigError, match="a LoRA in a sequence"):
        LOW.check(model, REQUEST, past)


def test_settings_without_a_lora_are_what_they_were_before_there_was_one() -> None:
    assert not {"lora_rank", "lora_rate"} & {*SMALL.model_dump(mode="json")}
    assert Recipe.build(LOW.model_dump(mode="json"), "x").model_dump() == LOW.model_dump()


def test_a_run_that_was_cut_off_ends_at_the_same_factors(model: Any, tmp_path: Path) -> None:
    slow = LOW.override({"steps": 8, "checkpoint_every": 0.0})
    straight = slow(model, REQUEST)

    def stop(done: int, total: int, losses: Any) -> None:
        if losses and done == 3:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        slow(model, REQUEST, checkpoint=tmp_path / "c.safetensors", progress=stop)
    assert slow(model, REQUEST, checkpoint=tmp_path / "c.safetensors").hash == straight.hash


@pytest.mark.slow
def test_merged_exported_and_put_on_a_pipeline_it_is_one_change(pipeline_folder: Path, tmp_path: Path) -> None:
    model = load(pipeline_folder, device="cpu")
    patch = Patch.load(LOW.override({"steps": 6})(model, REQUEST).save(tmp_path / "patch"))
    with applied(model, patch):
        wanted = {name: p.detach().clone() for name, p in model.editable().items() if name in patch.weights}
    whole = merge(pipeline_folder, patch, tmp_path / "whole", "float32")
    alone = merge(pipeline_folder, patch, tmp_path / "alone", "float32", only="lora")
    opened = lambda folder: StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    merged, put, loaded = opened(whole), opened(pipeline_folder), opened(pipeline_folder)
    load_into_pipeline(put, patch)
    loaded.load_lora_weights(alone)
    loaded.fuse_lora()
    loaded.unload_lora_weights()
    for pipe in (merged, put, loaded):
        mine = dict(pipe.unet.named_parameters())
        assert all(torch.allclose(mine[name.removeprefix("unet/")], value, atol=1e-7) for name, value in wanted.items())


def test_a_lora_of_the_text_encoder_is_loaded_by_diffusers_too(pipeline_folder: Path, tmp_path: Path) -> None:
    model = load(pipeline_folder, device="cpu")
    patch = LOW.override({"scope": "text"})(model, REQUEST)
    alone = merge(pipeline_folder, patch, tmp_path / "alone", only="lora")
    pipe = StableDiffusionPipeline.from_pretrained(pipeline_folder, safety_checker=None)
    ids = torch.tensor([[1, 2, 3, 4]])
    before = pipe.text_encoder(ids)[0]
    pipe.load_lora_weights(alone)
    with applied(model, patch):
        assert torch.allclose(pipe.text_encoder(ids)[0], model.texts[0].module(ids)[0], atol=1e-5)
    assert not torch.allclose(pipe.text_encoder(ids)[0], before, atol=1e-5)


def test_whole_weights_are_not_exported_as_a_lora(pipeline_folder: Path, tmp_path: Path) -> None:
    patch = SMALL(load(pipeline_folder, device="cpu"), REQUEST)
    with pytest.raises(UserError, match="a patch of kind 'replace' as a LoRA"):
        merge(pipeline_folder, patch, tmp_path / "alone", only="lora")
    assert not (tmp_path / "alone").exists()
