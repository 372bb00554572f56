"""A FLUX transformer begins with the blocks of a trained one as in Stable Diffusion 3.5, which it resembles.

The double blocks of both families compute alike. What differs has to be learned, in far fewer steps than all: positions
enter by rotation and not as a sum, text comes from T5, there is no long tail of zeros, and there are single blocks,
which begin by passing all through. What the first layers say of a prompt is fitted to what they said, by least squares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import SD3Transformer2DModel
from torch import Tensor

from expunge.tiny.bake.readings import Readings

RIDGE = 1e-3
"""Of the least squares, against the mean square of what is read."""


@torch.no_grad()
def begin_with(flux: Any, trained: SD3Transformer2DModel, theirs: Readings, their_ends: Sequence[int], ours: Readings,
               ends: Sequence[int]) -> None:
    """Take over all that both have, and fit what reads the prompt.

    Args:
        flux: a fresh `FluxTransformer2DModel` with as many double blocks, of the same width, as `trained`; changed in
            place.
        trained: the other transformer, of patches of 2 by 2.
        theirs: what the other one reads of some texts. their_ends: where each ends among its tokens; from there on, all
            states tell of the whole text.
        ours: what `flux` reads of these texts. ends: where they end there.
    """
    own, known = flux.state_dict(), trained.state_dict()
    taken = {name: tensor for name, tensor in known.items() if name in own and own[name].shape == tensor.shape}
    taken["x_embedder.weight"] = known["pos_embed.proj.weight"].flatten(1)
    taken["x_embedder.bias"] = known["pos_embed.proj.bias"]
    by_channel = torch.arange(len(known["proj_out.bias"])).view(2, 2, -1).permute(2, 0, 1).flatten()
    taken["proj_out.weight"], taken["proj_out.bias"] = (known[f"proj_out.{kind}"][by_channel]
                                                        for kind in ("weight", "bias"))
    taken |= _last(own, known, f"transformer_blocks.{len(trained.transformer_blocks) - 1}")
    guidance = "time_text_embed.guidance_embedder.linear_2"
    taken |= {f"{guidance}.{kind}": torch.zeros_like(own[f"{guidance}.{kind}"]) for kind in ("weight", "bias")}
    said = torch.stack([trained.context_embedder(states[end:].float()).mean(0)
                        for states, end in zip(theirs.states, their_ends, strict=True)])
    counts = torch.tensor([ours.states.shape[1] - end for end in ends])
    read = torch.cat([states[end:].float() for states, end in zip(ours.states, ends, strict=True)])
    _fit(taken, "context_embedder", read, said.repeat_interleave(counts, 0))
    pooled = "time_text_embed.text_embedder.linear_1"
    _fit(taken, pooled, ours.pooled.float(), trained.time_text_embed.text_embedder.linear_1(theirs.pooled.float()))
    flux.load_state_dict(own | taken)


def _last(own: Mapping[str, Tensor], known: Mapping[str, Tensor], block: str) -> dict[str, Tensor]:
    """The other's last block says nothing to the text: here that is gates of zero."""
    taken = {}
    for kind in ("weight", "bias"):
        name = f"{block}.norm1_context.linear.{kind}"
        scale, shift = known[name].chunk(2)
        taken[name] = torch.cat([shift, scale, torch.zeros_like(own[name][2 * len(scale):])])
    return taken


def _fit(taken: dict[str, Tensor], layer: str, read: Tensor, said: Tensor) -> None:
    """The linear layer that says `said` (N, E) of `read` (N, D), by ridge regression."""
    x = torch.cat([read, torch.ones(len(read), 1)], 1).double()
    gram = x.T @ x
    gram.diagonal().add_(RIDGE * gram.diagonal().mean())
    solved = torch.linalg.solve(gram, x.T @ said.double()).float()
    taken[f"{layer}.weight"], taken[f"{layer}.bias"] = solved[:-1].T.contiguous(), solved[-1]
