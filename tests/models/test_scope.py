"""Scopes select modules by role; no prefix of a name decides."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from expunge.errors import UserError
from expunge.models.scope import UNET, full_name, select


def names(model: Any, scope: str) -> set[str]:
    return set(model.parameters_in(scope))


def test_cross_attention_is_attn2_and_nothing_else(model: Any) -> None:
    found = names(model, "xattn")
    assert found == {name for name in model.parameters_of("denoiser") if ".attn2." in name}
    kv = names(model, "xattn.kv")
    assert kv < found
    assert {name.rsplit(".", 2)[1] for name in kv} == {"to_k", "to_v"}
    assert not any(".attn1." in name for name in kv)


def test_the_visual_scope_sees_the_image_and_no_text(model: Any) -> None:
    visual, queries = names(model, "visual"), names(model, "xattn.q")
    assert visual == names(model, "selfattn") | queries
    assert not visual & names(model, "xattn.kv")
    assert {name.rsplit(".", 2)[1] for name in queries} == {"to_q"}
    assert all(".attn1." in name for name in visual - queries)


def test_several_scopes_at_once(model: Any) -> None:
    assert names(model, "visual+xattn.kv") == names(model, "visual") | names(model, "xattn.kv")
    assert names(model, "text + xattn") == names(model, "text") | names(model, "xattn")
    with pytest.raises(UserError, match="unknown scope 'xatn'"):
        model.parameters_in("visual+xatn")


def test_noxattn_and_xattn_split_the_unets_layers(model: Any) -> None:
    rest = names(model, "noxattn")
    assert not rest & names(model, "xattn")
    assert rest | names(model, "xattn") == names(model, "unet")
    norms = {full_name("unet", f"{name}.weight") for name, module in model.network.named_modules()
             if isinstance(module, nn.GroupNorm | nn.LayerNorm)}
    assert norms
    assert not norms & names(model, "unet")
    assert {"unet/conv_in.weight", "unet/conv_out.bias", "unet/time_embedding.linear_1.weight"} <= rest
    assert len(rest) + len(norms) * 2 + len(names(model, "xattn")) == len(list(model.network.parameters()))


def test_text_leaves_the_embeddings_frozen(model: Any) -> None:
    every = set(model.parameters_of("text"))
    left_out = every - names(model, "text")
    assert left_out == {"text_encoder/embeddings.token_embedding.weight",
                        "text_encoder/embeddings.position_embedding.weight"}
    assert names(model, "all") == names(model, "unet") | names(model, "text")


def test_values_are_the_models_own_parameters(model: Any) -> None:
    for name, parameter in model.parameters_in("xattn.kv").items():
        with torch.no_grad():
            parameter.fill_(3)
        assert bool((dict(model.network.named_parameters())[name.removeprefix("unet/")] == 3).all())


def chosen(network: nn.Module, encoder: nn.Module, scope: str) -> dict[str, nn.Parameter]:
    return select("unet", network, UNET, {"text_encoder": encoder}, scope)


def test_layer_one_is_not_layers_ten_and_eleven() -> None:
    encoder = CLIPTextModel(CLIPTextConfig(
        vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=12, num_attention_heads=1,
        max_position_embeddings=4, bos_token_id=6, eos_token_id=7, pad_token_id=7))

    def layers(scope: str) -> set[int]:
        return {int(name.split("layers.")[1].split(".")[0]) for name in chosen(nn.Identity(), encoder, scope)}

    assert layers("text.layers:1") == {1}
    assert layers("text.layers:0-2") == {0, 1, 2}
    assert layers("text.layers:9-11") == {9, 10, 11}
    for scope in ("text.layers:12", "text.layers:3-12", "text.layers:2-1"):
        with pytest.raises(UserError, match=r"has 12 layers; accepted: .* within 0-11"):
            chosen(nn.Identity(), encoder, scope)


def test_a_prefix_of_older_transformers_makes_no_difference() -> None:
    assert full_name("text_encoder", "text_model.encoder.layers.1.mlp.fc1.bias") == \
        full_name("text_encoder", "encoder.layers.1.mlp.fc1.bias")


@pytest.mark.parametrize("scope", ["", "xatn", "attn2", "text.layers", "text.layers:", "text.layers:a"])
def test_unknown_scopes_list_the_known(model: Any, scope: str) -> None:
    known = r"unknown scope .*accepted: xattn, xattn\.kv, xattn\.k, xattn\.v, xattn\.q, selfattn, visual, noxattn, "
    with pytest.raises(UserError, match=known):
        model.parameters_in(scope)


def test_scope_that_selects_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="'xattn' selects nothing"):
        chosen(nn.Linear(2, 2), nn.Identity(), "xattn")
