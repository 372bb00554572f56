"""A text encoder as a file: the keys by which ComfyUI tells encoders, all weights, nothing transposed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from exported import REQUEST, Case, shaken
from safetensors.torch import load_file

import expunge
from expunge.errors import UserError
from expunge.exports.encoder import DETECTED, spelt
from expunge.exports.incoming import import_edit
from expunge.models.scope import full_name


@pytest.mark.parametrize(("name", "scope", "component"), [
    ("sd", "text", "text_encoder"), ("sdxl", "text1", "text_encoder"), ("sdxl", "text2", "text_encoder_2"),
    ("sd3", "text3", "text_encoder_3"), ("flux-dev", "text2", "text_encoder_2")])
def test_the_file_has_every_weight_under_the_keys_that_loaders_look_for(case_of: Callable[[str], Case], tmp_path: Path,
                                                                        name: str, scope: str, component: str) -> None:
    case, out = case_of(name), tmp_path / "clip.safetensors"
    patch = shaken(case.model, scope)
    record = expunge.export(patch, out, "text-encoder", model=case.folder)
    held = load_file(out)
    t5 = any(key.startswith("encoder.block.") for key in held)
    assert DETECTED["t5" if t5 else "clip"] in held
    assert all(key.startswith(("text_model.", "text_projection.")) for key in held) or t5
    assert not t5 or {"shared.weight", "encoder.final_layer_norm.weight"} <= held.keys()
    module = case.model.components[component]
    assert len(held) == len(dict(module.named_parameters()))
    assert {value.dtype for value in held.values()} == {torch.float16}
    for path, before in module.named_parameters():
        value = patch.tensors.get(full_name(component, path), before)
        mine = held[path if t5 else f"text_model.{path}" if f"text_model.{path}" in held else path]
        assert torch.equal(mine, value.half())
    assert any("undone by loading the stock" in note for note in record.notes)
    assert any("other text encoders" in note for note in record.notes) == (len(case.model.text_names) > 1)


def test_bigg_h_and_l_and_t5_xxl_are_told_by_these_keys_at_their_published_sizes() -> None:
    """The keys of comfy/sd.py, in encoders without values: 32 layers, 24, 12, and T5's 24 blocks."""
    import transformers

    from expunge import runtime

    sizes = {"text_model.encoder.layers.30.mlp.fc1.weight": 32, "text_model.encoder.layers.22.mlp.fc1.weight": 24,
             "text_model.encoder.layers.0.mlp.fc1.weight": 12}
    for key, layers in sizes.items():
        with runtime.without_weights():
            module = transformers.CLIPTextModel(transformers.CLIPTextConfig(num_hidden_layers=layers, hidden_size=64,
                                                                            num_attention_heads=4))
        assert key in {spelt(Only(module), "text_encoder", path) for path, _ in module.named_parameters()}  # type: ignore[arg-type]
    with runtime.without_weights():
        module = transformers.T5EncoderModel(transformers.T5Config(
            num_layers=24, d_model=64, d_ff=64, num_heads=4, feed_forward_proj="gated-gelu"))
    assert "encoder.block.23.layer.1.DenseReluDense.wi_1.weight" in {
        spelt(Only(module), "text_encoder", path) for path, _ in module.named_parameters()}  # type: ignore[arg-type]


class Only:
    """A base of one module."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def module(self, component: str) -> Any:
        return self._module


def test_the_projection_lies_as_transformers_has_it(case_of: Callable[[str], Case], tmp_path: Path) -> None:
    case, out = case_of("sdxl"), tmp_path / "clip_g.safetensors"
    expunge.export(shaken(case.model, "text2"), out, "text-encoder", model=case.folder, dtype="float32")
    value = case.model.editable()["text_encoder_2/text_projection.weight"]
    assert not torch.equal(value, value.T)
    assert torch.equal(load_file(out)["text_projection.weight"], value)


@pytest.mark.slow
def test_an_edit_of_several_components_asks_for_one_and_says_what_is_not_in_the_file(
        case_of: Callable[[str], Case], tmp_path: Path) -> None:
    case, out = case_of("sdxl"), tmp_path / "clip.safetensors"
    patch = shaken(case.model, "text")
    with pytest.raises(UserError, match="a patch of text_encoder and text_encoder_2 in a file of one component"):
        expunge.export(patch, out, "text-encoder", model=case.folder)
    with pytest.raises(UserError, match="the unet as a text encoder"):
        expunge.export(shaken(case.model, "xattn"), out, "text-encoder", model=case.folder)
    with pytest.raises(UserError, match="component 'vae'"):
        expunge.export(patch, out, "text-encoder", model=case.folder, component="vae")
    record = expunge.export(patch, out, "text-encoder", model=case.folder, component="text_encoder")
    assert any("also changes the text_encoder_2" in note for note in record.notes)
    again = import_edit(out, REQUEST, model=case.folder, component="text_encoder")
    assert {name.partition("/")[0] for name in again.weights} == {"text_encoder"}
