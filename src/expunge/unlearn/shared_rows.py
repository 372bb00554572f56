"""Training in several processes: each computes its share of a batch's rows, forward and backward.

A process asks the networks about one of N blocks of rows, and all of them put their blocks together, so that each has
the whole output and computes the whole loss. Backward, each takes its own rows of the loss's gradient through
the networks, and what that gives to weights and inputs is added up over the processes:

    out = gather_r f(x[rows of r]; w),    dL/dw = sum_r (dL/dout)[rows of r] . df(x[rows of r])/dw.

So every process holds the same losses, gradients and weights (on machines alike, whose kernels give the same bits
twice), and nothing that is made of a prediction (objectives, attackers, discriminators, gradient surgery, tables of the
frozen teacher) knows of the others. One process computes the same sums in another order: results
differ by rounding, which grows with the steps. Every part must ask the networks the same questions in the same order in
every process: none may decide by a clock, by the order of a set, or by what is on one machine alone.

Differs from torch's DistributedDataParallel: that gives each process a loss of its own and takes their mean, which is
wrong for losses that are no mean over rows, and reduces only what `backward` leaves in `grad`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from expunge.errors import ExpungeError
from expunge.models.base import Denoiser
from expunge.models.conditioning import Conditioning
from expunge.models.model import Model
from expunge.models.text import Tokens
from expunge.runtime import Runtime
from expunge.unlearn.change import Change


def shared_out(model: Model, change: Change, processes: Runtime) -> Model:
    """The model, whose networks are asked about their share of rows by each process; itself where there is but one.

    Every process must ask it the same, in the same order.
    """
    if processes.count == 1:
        return model
    return model.asked_through(lambda inner: cast(Denoiser, SharedRows(inner, change, processes)))


class SharedRows:
    """A `models.base.Denoiser` that asks another one about this process's rows."""

    def __init__(self, inner: Denoiser, change: Change, processes: Runtime) -> None:
        self._inner, self._change, self._processes = inner, change, processes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def predict(self, x_t: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        """Of all rows, float32 (B, c, h, w)."""
        share = _Share(len(x_t), self._processes)
        mine = share.cond(cond)
        with self._change.through(share.weights):
            out = self._inner.predict(share.of(x_t), share.of(t) if t.dim() else t, mine)
        return share.gathered(out)

    def condition(self, tokens: Sequence[Tokens], embeddings: Mapping[int, Tensor]) -> Conditioning:
        """Of all rows."""
        share = _Share(len(tokens[0].ids), self._processes)
        with self._change.through(share.weights):
            told = self._inner.condition([each.at(share.places) for each in tokens],
                                         {place: share.of(rows) for place, rows in embeddings.items()})
        return Conditioning({name: share.gathered(rows) for name, rows in told.rows.items()}, told.shared)

    def with_components(self, components: Mapping[str, nn.Module]) -> Denoiser:
        """ExpungeError: what a copy learned would not be added up."""
        raise ExpungeError("a copy of a model whose rows are shared out among processes",
                           accepted="a copy of the model, made before they are")


class _Share:
    """The rows of one call that are this process's: a block as long as any other's, with repeated rows at the end."""

    def __init__(self, rows: int, processes: Runtime) -> None:
        self.rows, self.processes = rows, processes
        each = -(-rows // processes.count)
        self.first = processes.rank * each
        self.places = (self.first + torch.arange(each)) % max(1, rows)
        self.own = max(0, min(each, rows - self.first))
        """How many of them are no repetition."""

    def of(self, tensor: Tensor) -> Tensor:
        """This process's rows of (B, ...)."""
        if torch.is_grad_enabled() and tensor.requires_grad:
            return cast(Tensor, _Rows.apply(tensor, self))
        return tensor[self.places.to(tensor.device)]

    def cond(self, cond: Conditioning) -> Conditioning:
        """The same of everything that has rows."""
        return Conditioning({name: self.of(rows) for name, rows in cond.rows.items()}, cond.shared)

    def weights(self, weights: Sequence[Tensor]) -> Sequence[Tensor]:
        """Stand-ins for the weights, whose gradients are added up over the processes."""
        return cast(Sequence[Tensor], _Weights.apply(self.processes, *weights)) if torch.is_grad_enabled() else weights

    def gathered(self, mine: Tensor) -> Tensor:
        """All rows of what every process has computed of its own."""
        if torch.is_grad_enabled() and mine.requires_grad:
            return cast(Tensor, _Gathered.apply(mine, self))
        return self.processes.stacked(mine)[:self.rows]


class _Gathered(Function):
    """Blocks put together; backward, this process's rows."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor, share: _Share) -> Tensor:
        ctx.share = share
        return share.processes.stacked(mine.detach())[:share.rows]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        share: _Share = ctx.share
        mine = grad.new_zeros(len(share.places), *grad.shape[1:])
        mine[:share.own] = grad[share.first:share.first + share.own]
        return mine, None


class _Rows(Function):
    """This process's rows; backward, everybody's gradients at their places."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, share: _Share) -> Tensor:
        ctx.share = share
        return tensor[share.places.to(tensor.device)]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        share: _Share = ctx.share
        return share.processes.stacked(grad)[:share.rows], None


class _Weights(Function):
    """The weights themselves; backward, the sum of everybody's gradients, in one message."""

    @staticmethod
    def forward(ctx: Any, processes: Runtime, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.processes = processes
        ctx.set_materialize_grads(False)  # what this call does not use has no gradient, in any process
        return tuple(weight.view_as(weight) for weight in weights)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        there = [grad for grad in grads if grad is not None]
        parts = ctx.processes.summed(torch.cat([grad.flatten() for grad in there])).split([g.numel() for g in there])
        summed = iter(part.view_as(grad) for part, grad in zip(parts, there, strict=True))
        return None, *(None if grad is None else next(summed) for grad in grads)
