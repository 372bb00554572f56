"""Merging somebody's LoRA into the edited model, as users of published models do: does the concept come back?

    W' = W + strength * (alpha / rank) * B A

A LoRA that was made on the original model for something else knows nothing of the concept, but it moves weights that
the edit moved; one that was made for the concept brings it along. What it does to the edit is seen only by trying.

Source: Hu et al. 2021, section 4.1 (merging). Differs: none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch.nn import Parameter

from expunge.attacks.base import Access, Attack
from expunge.attacks.proposal import Batch, Candidate, Rounds
from expunge.attacks.victim import Item, Victim
from expunge.config import knob
from expunge.errors import UserError
from expunge.files import file_digest
from expunge.models.lora import LoraFile, lora_path, read_lora
from expunge.models.model import Model
from expunge.records import Request, counted
from expunge.train import restored


class Adapter(Attack):
    """A LoRA file of the user's own, merged into the edited model."""

    access: ClassVar[Access] = "weights"
    source: ClassVar[str] = "Hu et al. 2021 (2106.09685), section 4.1"

    path: str = knob("", "the LoRA: a .safetensors file in the format of diffusers or kohya, or its folder")
    strength: float = knob(1.0, "factor of the LoRA's change")

    def check(self, victim: Victim, request: Request, items: Sequence[Item]) -> None:
        """UserError without a path, or for a LoRA that changes nothing; ModelError for a file that is damaged, of
        another kind, or for another model."""
        file = self._file(victim.model)
        deltas = file.deltas(_weights(victim.model))
        if not self.strength or not any(bool(delta.any()) for delta in deltas.values()):
            why = "strength 0" if not self.strength else f"every update of its {counted(len(deltas), 'layers')} is zero"
            raise UserError(f"merging {file.path.name} changes nothing ({why}), so it is no attack",
                            accepted="a LoRA that was trained, at a strength other than 0")

    def inputs(self) -> str:
        """Digest of the file: with other content it is another attack."""
        return file_digest(lora_path(self.path))

    def propose(self, batch: Batch) -> Rounds:
        """Every item, once, with the merged weights."""
        file, weights = self._file(batch.victim.model), _weights(batch.victim.model)
        changed = {name: weights[name] for name in file.factors if name in weights}
        with restored(changed):
            with torch.no_grad():
                for name, delta in file.deltas(weights).items():
                    weights[name].add_(delta, alpha=self.strength)
            note = f"{file.path.name} merged at strength {self.strength:g} ({len(changed)} layers)"
            yield [Candidate(row, note=note) for row in batch.standing]

    def _file(self, model: Model) -> LoraFile:
        if not self.path:
            raise UserError("the attack 'adapter' needs a LoRA, and `path` names none",
                            accepted="a .safetensors file, or a folder with pytorch_lora_weights.safetensors")
        return read_lora(self.path, model)


def _weights(model: Model) -> dict[str, Parameter]:
    if model.held:
        raise UserError(f"merging a LoRA into {model.held}", accepted="weights in a number type of their own",
                        remedy="load the model without --eight-bit")
    return model.editable()
