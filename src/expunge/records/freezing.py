"""Which tensors of a published model stay frozen when others fine-tune it, and what became of them."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from expunge.records.base import Record

Measure = Literal["numel", "count"]
"""What a share of a model is counted in: parameters (numel), or tensors (count), a bias as much as a convolution."""
Granularity = Literal["tensor", "module", "block"]
"""What is frozen together."""


class MaskedTensor(Record):
    """One tensor of a model under a mask.

    Attributes:
        frozen: whether it stays as it was published.
        score: the larger, the sooner it is frozen; None where nothing was learned (random and imported masks).
        numel: parameters in it.
        sha256: content hash of its published float32 value, as hex; of frozen tensors only.
    """

    frozen: bool
    score: float | None = None
    numel: int = Field(ge=1)
    sha256: str = Field("", pattern="^([0-9a-f]{64})?$")


class FreezeMask(Record):
    """Which tensors of which model stay frozen: a policy that a platform can enforce and verify.

    Attributes:
        model, model_hash, process: the model it is for, as in `Model`; patch_hash: of the edit that was on.
        tensors: every tensor of the UNet by its full name, in the order in which the UNet holds them.
        frozen_hash: sha256 over names and hashes of the frozen tensors.
        ratio, by, granularity: what was asked for; what came of it is `share`.
        method: preset that made it ("projected", "random", "positional"); settings, seed: all that decides it.
        warnings: those about it.
        versions, losses (thinned, by name), steps, seconds, machine, created: as in `PatchCard`.

    Raises (when read):
        ValueError: hashes do not belong to the frozen tensors: the file is damaged, or was edited by hand.
    """

    format: Literal[1] = 1
    model: str
    model_hash: str
    process: str
    patch_hash: str = ""
    tensors: dict[str, MaskedTensor] = Field(min_length=1)
    frozen_hash: str
    ratio: float = Field(ge=0.0, le=1.0)
    by: Measure = "numel"
    granularity: Granularity = "tensor"
    method: str
    settings: dict[str, Any] = {}
    seed: int = 0
    warnings: tuple[str, ...] = ()
    versions: dict[str, str] = {}
    losses: dict[str, list[float]] = {}
    steps: int = 0
    seconds: float = 0.0
    machine: str = ""
    created: str = ""

    @model_validator(mode="after")
    def _hashes_belong(self) -> Self:
        odd = [name for name, tensor in self.tensors.items() if tensor.frozen != bool(tensor.sha256)]
        if odd:
            raise ValueError(f"{odd[0]!r} is frozen without a hash, or has one without being frozen")
        if hash_of_frozen(self.tensors) != self.frozen_hash:
            raise ValueError("frozen_hash is not that of the frozen tensors: damaged, or edited by hand")
        return self

    @property
    def frozen(self) -> tuple[str, ...]:
        """Full names of the frozen tensors, in the model's order."""
        return tuple(name for name, tensor in self.tensors.items() if tensor.frozen)

    @property
    def trainable(self) -> tuple[str, ...]:
        """Full names of the others."""
        return tuple(name for name, tensor in self.tensors.items() if not tensor.frozen)

    def share(self, by: Measure) -> float:
        """The frozen share of the tensors (count) or of their parameters (numel), in [0, 1]."""
        size = {name: tensor.numel if by == "numel" else 1 for name, tensor in self.tensors.items()}
        return sum(size[name] for name in self.frozen) / sum(size.values())


def hash_of_frozen(tensors: dict[str, MaskedTensor]) -> str:
    """sha256 over the names and hashes of the frozen among them, in the order of the names."""
    lines = [f"{name} {tensor.sha256}\n" for name, tensor in sorted(tensors.items()) if tensor.frozen]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


class Moved(Record):
    """A tensor that is not as it was published.

    Attributes:
        name: its full name; frozen: whether the mask holds it.
        largest: largest absolute difference of an entry; relative: norm of the difference over that of the published
            value. None where they are not finite, or the published value is zero.
        how: "values", "shape", "type" (a number type that is not accepted), "lora" (a low-rank update or another
            adapter on it).
    """

    name: str
    frozen: bool
    largest: float | None = None
    relative: float | None = None
    how: Literal["values", "shape", "type", "lora"] = "values"


class Verification(Record):
    """A returned model beside the published one.

    Attributes:
        mask: digest of the mask; returned: what was looked at.
        kept: frozen tensors that are as they were published; frozen: how many the mask holds.
        moved: every tensor that moved, frozen ones first, then by how far.
        missing: tensors of the published model that are not there; missing_frozen: those that the mask holds.
        added: tensors that the published model does not have, and that are no adapter on one of its modules.
        differs: what the configuration says of the architecture that the published one does not.
        note: what the comparison allowed for (a smaller number type).
    """

    mask: str
    returned: str
    frozen: int
    kept: int
    moved: tuple[Moved, ...] = ()
    missing: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    missing_frozen: tuple[str, ...] = ()
    differs: tuple[str, ...] = ()
    note: str = ""

    @property
    def broken(self) -> tuple[str, ...]:
        """All that breaks the policy, each once; empty where it was kept.

        Frozen tensors that moved or are missing, tensors in a number type that is not accepted, added tensors (through
        which a model can learn what the frozen ones would not), and another architecture.
        """
        moved = [one.name for one in self.moved if one.frozen or one.how == "type"]
        return tuple(dict.fromkeys((*moved, *self.missing_frozen, *self.added, *self.differs)))


class Savings(Record):
    """What users save by not training the frozen tensors: an estimate, not a measurement.

    Attributes:
        memory_bytes: 12 bytes per frozen parameter: float32 gradient and AdamW's two moments.
        memory_share: of those of all parameters.
        weight_gradients: share of the forward and backward FLOPs of linear and convolutional layers that goes into
            gradients of frozen weights (at most 1/3). activations: share that goes into gradients of activations before
            the first trainable tensor (at most 1/3).
        first_trainable: the trainable tensor that is used first in a forward pass.
        formula: how they were made.
    """

    memory_bytes: int
    memory_share: float
    weight_gradients: float
    activations: float
    first_trainable: str
    formula: str

    @property
    def time_share(self) -> float:
        """Share of a training step's FLOPs that falls away."""
        return self.weight_gradients + self.activations


class TrainingTerms(Record):
    """The terms on which others may fine-tune a model, for services that know nothing of expunge.

    Attributes:
        model, model_hash: the published model; mask: digest of the mask.
        frozen, trainable: names as `unet.named_parameters()` in diffusers has them. Frozen ones belong in no optimizer.
        lora_targets: layers that a LoRA may be put on (peft's `target_modules`), none of them frozen.
        savings: what users save.
    """

    format: Literal[1] = 1
    model: str
    model_hash: str
    mask: str
    frozen: tuple[str, ...]
    trainable: tuple[str, ...]
    lora_targets: tuple[str, ...]
    savings: Savings
