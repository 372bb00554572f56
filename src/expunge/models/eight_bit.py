"""A denoiser whose blocks hold their linear layers in 8 bits: half the memory of bfloat16, for weights that stay.

Of a weight W (out, in) there are codes and a scale for each row,

    q = round(W / s),   s = max |W| / 127 over the row,   W ~ s q,

and a layer makes its weight anew from them whenever it is called, forwards and backwards, so that nothing of the size
of W is kept in between. Inputs and sums are as without: only weights are rounded. What trains over them is a LoRA.

Source: Dettmers et al. 2022 (LLM.int8), section 2, of weights alone. bitsandbytes rounds inputs too, by way of float16,
where activations of large transformers overflow; torchao keeps a wide copy of every weight for the backward pass.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.nn.functional import linear

from expunge.models.scope import full_name

_LARGEST = 127


class EightBit(nn.Linear):
    """A linear layer of codes: `weight` is int8 (out, in), `scale` float32 (out, 1)."""

    scale: Tensor

    def __init__(self, plain: nn.Linear) -> None:
        """In the place of a layer, whose weight may have no values yet (a meta tensor)."""
        nn.Module.__init__(self)
        self.in_features, self.out_features = plain.in_features, plain.out_features
        self.wide = plain.weight.dtype
        self.register_buffer("scale", torch.ones(self.out_features, 1, device=plain.weight.device), persistent=False)
        self.weight = Parameter(torch.empty_like(plain.weight, dtype=torch.int8), requires_grad=False)
        self.bias = plain.bias
        if not plain.weight.is_meta:
            self.fill(plain.weight.detach())

    def fill(self, weight: Tensor) -> None:
        """Take the codes of a weight (out, in), which are then on its device."""
        scale = weight.float().abs().amax(1, keepdim=True) / _LARGEST
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))  # a row of zeros
        self.weight = Parameter((weight.float() / scale).round().to(torch.int8), requires_grad=False)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """(..., out)"""
        out: Tensor = _Product.apply(x, self.weight, self.scale, self.bias)
        return out

    @torch.no_grad()
    def plain(self) -> nn.Linear:
        """The layer with its weight as it computes with it, in the number type that it had."""
        layer = nn.Linear(self.in_features, self.out_features, device="meta")
        layer.weight = Parameter(_wide(self.weight, self.scale, self.wide), requires_grad=False)
        layer.bias = self.bias
        return layer


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, codes: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(codes, scale)
        return linear(x, _wide(codes, scale, x.dtype), bias)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        codes, scale = ctx.saved_tensors
        return grads[0] @ _wide(codes, scale, grads[0].dtype), None, None, None


def _wide(codes: Tensor, scale: Tensor, dtype: torch.dtype) -> Tensor:
    return (codes * scale).to(dtype)


def put_in(network: nn.Module) -> int:
    """Put 8-bit layers in the place of the linear ones in a network's blocks (its numbered parts); how many.

    What stands before and behind the blocks is small, and stays.
    """
    found = [(parent, name, child) for path, parent in network.named_modules() for name, child in
             parent.named_children() if type(child) is nn.Linear and any(
                 part.isdigit() for part in f"{path}.{name}".split("."))]
    for parent, name, child in found:
        setattr(parent, name, EightBit(child))
    return len(found)


def layers_in(component: str, network: nn.Module) -> Iterator[tuple[str, EightBit]]:
    """8-bit layers by the full names of their weights."""
    for path, module in network.named_modules():
        if isinstance(module, EightBit):
            yield full_name(component, f"{path}.weight"), module


def widened(parts: Mapping[str, nn.Module], names: Collection[str]) -> list[tuple[nn.Module, str, EightBit]]:
    """Put ordinary layers in the place of those 8-bit ones whose weights have these full names, to be changed in place.

    What they are given back by: (parent, name in it, the 8-bit layer).
    """
    found = [(parent, name, child) for component, network in parts.items() for path, parent in network.named_modules()
             for name, child in parent.named_children() if isinstance(child, EightBit)
             and full_name(component, f"{path}.{name}.weight".lstrip(".")) in names]
    for parent, name, layer in found:
        setattr(parent, name, layer.plain())
    return found
