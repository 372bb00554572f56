"""The parameters that a method changes: fit to be changed, and put back afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor
from torch.nn import Parameter

from expunge.errors import UserError
from expunge.models.model import Model
from expunge.train import restored


def checked_weights(model: Model, scope: str) -> dict[str, Parameter]:
    """The parameters of `scope`, fit to be changed.

    Raises:
        UserError: a patch is on, unknown scope, weights not in float32.
    """
    if model.patch_hash:
        raise UserError("the model has a patch on", accepted="the model as loaded", remedy="remove the patch first")
    params = model.parameters_in(scope)
    kinds = sorted({str(p.dtype) for p in params.values()} - {"torch.float32"})
    if kinds:
        raise UserError(f"the model's weights are {', '.join(kinds)}", accepted="torch.float32",
                        remedy="load the model with dtype float32 to change it")
    return params


@contextmanager
def training(params: Mapping[str, Parameter]) -> Iterator[dict[str, Tensor]]:
    """Inside, `params` take gradients; afterwards values and flags are as before. Yields the values."""
    with restored(params) as original:
        for p in params.values():
            p.requires_grad_(True)
        yield original
