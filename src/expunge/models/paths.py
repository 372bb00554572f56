"""The ways by which a prompt reaches the denoiser, and which of them an edit leaves as they are.

Families beside Stable Diffusion 1 and 2 are told a pooled state of the whole prompt too, through layers of their own
(scope `pooled`). An edit of attention or of the entry for text states does not touch it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from torch import Tensor

from expunge.errors import UserError
from expunge.models.model import Model

POOLED = "pooled"
"""The scope of the layers through which the pooled state enters, and the state's row in the conditioning."""


def first_layer(model: Model) -> str:
    """Full name of the weight that the pooled state enters by; its first columns read the state.

    Raises:
        UserError: the family is told no pooled state.
    """
    if POOLED not in model.denoiser.scopes:
        raise UserError(f"{model.family} is told no pooled text state", accepted="text states alone (pooled: false)")
    return next(name for name in model.parameters_in(POOLED) if name.endswith(".weight"))


def pooled_states(model: Model, prompts: Sequence[str]) -> Tensor:
    """(B, P) what stands for the whole of each prompt; no gradient.

    Raises:
        UserError: a prompt is longer than every text encoder reads.
    """
    return model.encode(prompts).rows[POOLED].detach()


def left_open(model: Model, tensors: Collection[str]) -> str:
    """In a sentence, that an edit of these tensors (full names) leaves the pooled state's way; "" where it does not.

    An edit of a text encoder that the pooled state comes from changes what is said on that way.
    """
    if POOLED not in model.denoiser.scopes:
        return ""
    edited = {name.partition("/")[0] for name in tensors}
    if edited & {encoder.name for encoder in model.denoiser.texts if encoder.pooled} or \
            {*tensors} & {*model.names_in(POOLED)}:
        return ""
    layers = sorted({name.rpartition(".")[0].partition("/")[2] for name in model.names_in(POOLED)})
    return (f"the pooled text state still reaches the {model.network_name} as before (through {', '.join(layers)}): "
            "the edit does not change it")
