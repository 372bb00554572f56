"""Tokens that are equal are attended to as one, and nothing changes but the time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import JointAttnProcessor2_0

from expunge.models.repeated import JointAttention
from pipelines_of_families import built, taken


def velocity(transformer: Any, states: Any, **told: Any) -> Any:
    draw = torch.Generator().manual_seed(1)
    x, pooled = torch.randn(2, 4, 8, 8, generator=draw), torch.randn(2, 80, generator=draw)
    with torch.no_grad():
        return transformer(hidden_states=x, timestep=torch.tensor([900.0, 50.0]), encoder_hidden_states=states,
                           pooled_projections=pooled, joint_attention_kwargs=told, return_dict=False)[0]


@pytest.mark.parametrize("fused", [True, False])
def test_one_token_that_counts_for_many_is_as_many_equal_ones(fused: bool) -> None:
    transformer = built("sd3-no-t5").transformer
    words = torch.randn(2, 7, 96, generator=torch.Generator().manual_seed(0))
    zeros = torch.zeros(2, 256, 96)
    expected = velocity(transformer, torch.cat([words, zeros], 1))
    transformer.set_attn_processor(JointAttention(fused))
    long = velocity(transformer, torch.cat([words, zeros], 1))
    short = velocity(transformer, torch.cat([words, zeros[:, :1]], 1), last_counts=256)
    uncounted = velocity(transformer, torch.cat([words, zeros[:, :1]], 1))
    assert torch.allclose(long, expected, atol=1e-5)
    assert torch.allclose(short, expected, atol=1e-5)
    assert (uncounted - expected).abs().max() > 1e-3, "the count matters"


def test_a_transformer_without_t5_reads_its_zeros_once() -> None:
    model = taken(built("sd3-no-t5"))
    tokens = []
    transformer = model.denoiser.components["transformer"]
    transformer.context_embedder.register_forward_hook(lambda _, told, __: tokens.append(told[0].shape[1]))
    cond = model.encode(["a church"])
    model.denoiser.predict(torch.randn(1, 4, 8, 8), torch.tensor([500.0]), cond)
    assert tokens == [cond.states.shape[1] - 255]


def test_attention_that_somebody_else_put_in_is_left_alone() -> None:
    class Own(JointAttnProcessor2_0):
        pass

    pipe = built("sd3-no-t5")
    pipe.transformer.set_attn_processor(Own())
    model = taken(pipe)
    cond, x = model.encode(["a church"]), torch.randn(1, 4, 8, 8)
    out = model.denoiser.predict(x, torch.tensor([500.0]), cond)
    expected = model.denoiser.components["transformer"](
        hidden_states=x, timestep=torch.tensor([500.0]), encoder_hidden_states=cond.states,
        pooled_projections=cond.rows["pooled"], return_dict=False)[0]
    assert torch.equal(out, expected)
    assert all(type(one) is Own for one in model.denoiser.components["transformer"].attn_processors.values())
