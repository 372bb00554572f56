"""The weights of a model that was opened from a single file, as its files hold them, by the names that patches use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from expunge import untrusted
from expunge.errors import ModelError
from expunge.models.base import Denoiser
from expunge.models.folder import variant_of
from expunge.models.in_files import weights_in
from expunge.models.original import Place
from expunge.models.scope import full_names
from expunge.models.single_file import SingleFile


@dataclass(frozen=True)
class Lies:
    """Where a weight lies in a single file.

    Attributes:
        key: the whole key, prefix included; "" for a unit matrix, which is in no file.
        place: what part of that tensor it is. component: whose it is. shape: of the weight itself.
    """

    key: str
    place: Place
    component: str
    shape: tuple[int, ...]


class FileWeights(Mapping[str, Tensor]):
    """Tensors by full name, each read when it is asked for, in the number type of its file (float8 as bfloat16).

    What the file lacks is read from the folder that lends it.

    Attributes:
        lies: where the weights that are in the file lie, by full name. used: all keys that its networks have a place
            for, buffers included.
    """

    def __init__(self, file: SingleFile, folder: Path, denoiser: Denoiser, variant: str | None = None) -> None:
        """`denoiser`: the family's networks, which may have no values; `folder`: configs, and what the file lacks.

        Raises:
            ModelError: the folder does not hold what the file lacks.
        """
        self.file, self._folder, held = file, folder, file.holds()
        self.lies: dict[str, Lies] = {}
        self.used: set[str] = set()
        lent = {name: module for name, module in denoiser.components.items() if name not in held}
        for component, module in denoiser.components.items():
            if component in held:
                layout = file.layout(component, module)
                self.used |= {layout.prefix + layout.place(path).key for path in module.state_dict()}
                for full, parameter in full_names(component, module).items():
                    mine = full.partition("/")[2]
                    place = layout.place(mine)
                    self.lies[full] = Lies("" if mine in layout.identity else layout.prefix + place.key, place,
                                           component, tuple(parameter.shape))
        chosen = variant_of(folder, [*lent], variant or "", False) if lent else None
        borrowed: Mapping[str, Tensor] | None = weights_in(folder, chosen, lent) if lent else {}
        if borrowed is None:
            raise ModelError(f"the weights of {', '.join(lent)} in {folder} go by names that are not known",
                             accepted="a folder that save_pretrained wrote")
        self._lent: Mapping[str, Tensor] = borrowed

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.lies:
            return self._lent[name]
        lies = self.lies[name]
        if not lies.key:
            return torch.eye(*lies.shape)
        with untrusted.tensors(self.file.path) as opened:
            return self.file.tensor(opened, lies.key, lies.place, torch.empty(lies.shape, device="meta"),
                                    lies.component, self._folder)

    def __iter__(self) -> Iterator[str]:
        yield from self.lies
        yield from (name for name in self._lent if name not in self.lies)

    def __len__(self) -> int:
        return len({*self.lies, *self._lent})
