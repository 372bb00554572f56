"""Blocks in 8 bits: what they compute, what they keep, and that a LoRA over them erases on the ordinary model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from expunge.errors import UserError
from expunge.models.eight_bit import EightBit, layers_in, put_in, widened
from expunge.models.store import load
from expunge.records import Request
from expunge.unlearn.recipe import Recipe
from expunge.unlearn.source import FrozenTrajectory

REQUEST = Request(concept="church", prompts=("a church", "a picture of a church"), anchor="house")
LOW = Recipe(source=FrozenTrajectory(grid=3, trajectories=2), steps=4, batch=2, learning_rate=1e-3, lora_rank=2)


def test_a_layer_rounds_each_weight_by_half_a_step_of_its_row_at_most() -> None:
    plain = nn.Linear(24, 7).requires_grad_(False)
    plain.weight[3] = 0.0
    layer = EightBit(plain)
    step = plain.weight.abs().amax(1, keepdim=True) / 127
    assert bool(((layer.plain().weight - plain.weight).abs() <= step / 2 + 1e-9).all())
    assert layer.weight.nbytes == 24 * 7
    x = torch.randn(2, 3, 24, generator=torch.Generator().manual_seed(0))
    assert torch.equal(layer(x), layer.plain()(x))
    assert torch.equal(EightBit(layer.plain()).weight, layer.weight)


def test_gradients_are_those_of_the_rounded_weights_and_no_wide_weight_is_kept() -> None:
    layer, kept = EightBit(nn.Linear(64, 64, bias=False).requires_grad_(False)), list[torch.Tensor]()
    plain, x = layer.plain(), torch.randn(2, 64, requires_grad=True)

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = layer(x)
    assert not [tensor for tensor in kept if tensor.is_floating_point() and tensor.numel() >= 64 * 64]
    (mine,), (its,) = torch.autograd.grad(out.square().sum(), [x]), torch.autograd.grad(plain(x).square().sum(), [x])
    assert torch.allclose(mine, its)


@pytest.mark.parametrize("offload", [False, True])
def test_a_model_in_8_bits_is_the_model_of_its_files_drawn_a_little_otherwise(
        pipeline_folder: Path, offload: bool) -> None:
    plain, eight = (load(pipeline_folder, device="cpu", dtype="bfloat16", **how)
                    for how in ({}, {"eight_bit": True, "offload": offload}))
    assert (eight.hash, eight.parts, eight.held) == (plain.hash, plain.parts, "8-bit blocks")
    assert eight.drawing != plain.drawing
    layers = dict(layers_in("unet", eight.network))
    assert layers
    assert sum(plain.sizes_of("denoiser").values()) - sum(eight.sizes_of("denoiser").values()) == sum(
        layer.weight.numel() for layer in layers.values())
    x, t = plain.initial_noise([1, 2]), torch.tensor([400.0, 10.0])
    with torch.no_grad():
        a, b = (one.predict(x, t, one.encode(["a church", ""])) for one in (plain, eight))
        eight.encode(["a house"])
        again = eight.predict(x, t, eight.encode(["a church", ""]))
    assert 0 < float((a - b).norm() / a.norm()) < 0.05
    assert torch.equal(b, again)


def test_a_lora_over_8_bits_is_a_patch_of_the_ordinary_model_and_its_card_tells(pipeline_folder: Path) -> None:
    eight, plain = (load(pipeline_folder, device="cpu", eight_bit=on) for on in (True, False))
    before = {name: p.detach().clone() for name, p in eight.parameters_of("denoiser", "text").items()}
    patch = LOW(eight, REQUEST)
    assert (patch.card.base_held, patch.card.kind, patch.card.base_hash) == ("8-bit blocks", "lora", plain.hash)
    assert all(torch.equal(p, before[name]) for name, p in eight.parameters_of("denoiser", "text").items())
    changed = []
    for model in (plain, eight):
        x, t, cond = model.initial_noise([1]), torch.tensor([400.0]), model.encode(["a church"])
        with torch.no_grad():
            was = model.predict(x, t, cond)
            model.apply(patch)
            changed.append(model.predict(x, t, cond) - was)
            model.remove()
            assert torch.equal(model.predict(x, t, cond), was)
    assert float((changed[0] - changed[1]).norm() / changed[0].norm()) < 0.2
    assert LOW(plain, REQUEST).card.base_held == ""


def test_whole_weights_in_8_bits_are_not_trained(pipeline_folder: Path) -> None:
    model = load(pipeline_folder, device="cpu", eight_bit=True)
    with pytest.raises(UserError, match=r"whole weights of 8-bit blocks; accepted: a LoRA over them; --lora-rank 8"):
        LOW.override({"lora_rank": None})(model, REQUEST)
    with pytest.raises(UserError, match="the model's weights are 8-bit blocks"):
        model.edited(None)


def test_layers_before_and_behind_the_blocks_stay_and_widened_ones_are_ordinary() -> None:
    network: Any = nn.ModuleDict({"entry": nn.Linear(4, 4), "blocks": nn.ModuleList([nn.Linear(4, 4)])})
    network.requires_grad_(False)
    assert put_in(network) == 1
    assert type(network["entry"]) is nn.Linear
    ((parent, name, layer),) = widened({"unet": network}, ["unet/blocks.0.weight"])
    assert type(network["blocks"][0]) is nn.Linear
    setattr(parent, name, layer)
    assert isinstance(network["blocks"][0], EightBit)
