"""The hashes of one model's weights: taken of the files where these hold them, else of what is in memory."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from expunge.models.identity import HALVES, rounded_hash, stored_half, value_hash
from expunge.models.in_files import Some, files_open
from expunge.models.networks import ROLES, Networks

Remember = Callable[[Callable[[], Mapping[str, str]]], Mapping[str, str]]
"""Gives what its argument gives, now or earlier (`models.remembered`)."""


class WeightHashes:
    """Of the weights as they were loaded, before any cast; a patch that is on is left out.

    Attributes:
        whole: of the values of all parameters. texts: of the text encoders' alone.
        stored: the values by full name as the files hold them; None where no files tell.
    """

    def __init__(self, networks: Networks, stored: Mapping[str, Tensor] | None, replaced: Mapping[str, Tensor],
                 remember: Remember | None = None) -> None:
        """Take them, or those that `remember` knows of the same files.

        `replaced`: what a patch that is on put others in the place of, as it changes.
        """
        self._networks, self.stored, self._replaced = networks, stored, replaced
        digests = dict(self._digests() if remember is None else remember(self._digests))
        self.whole, self.texts = digests.pop("hash"), digests.pop("encoder_hash")
        self._rounded: dict[str, str] = digests

    def copied(self, networks: Networks, replaced: Mapping[str, Tensor]) -> WeightHashes:
        """The same for a copy of the networks; `replaced` in them."""
        twin = copy.copy(self)
        twin._networks, twin._replaced, twin._rounded = networks, replaced, dict(self._rounded)
        return twin

    def rounded(self, kind: str, in_memory: bool) -> dict[str, str]:
        """Of every component, rounded to a smaller type: by "float16/unet" and so on.

        Args:
            kind: "float16" or "bfloat16"; "" means both. in_memory: whether memory holds the weights as loaded.
        """
        kinds = [kind] if kind else [*HALVES]
        for one in kinds:
            known = any(name.startswith(f"{one}/") for name in self._rounded)
            if one in HALVES and not known and (in_memory or self.stored is not None):
                with files_open(self.stored):
                    self._rounded |= self._of_components(one)
        return {name: value for name, value in self._rounded.items() if name.partition("/")[0] in kinds}

    def _digests(self) -> dict[str, str]:
        """All that is a digest of the weights, and costs reading them."""
        with files_open(self.stored):
            every = self._loaded([*self._networks.every(*ROLES)])
            texts = self._loaded([*self._networks.every("text")])
            digests = {"hash": value_hash(every), "encoder_hash": value_hash(texts)}
            kind = stored_half(every)
            # The weights may be cast to another type next.
            return digests | (self._of_components(kind) if kind else {})

    def _of_components(self, kind: str) -> dict[str, str]:
        names: dict[str, list[str]] = {}
        for full in self._networks.every(*ROLES):
            names.setdefault(full.partition("/")[0], []).append(full)
        return {f"{kind}/{component}": rounded_hash(self._loaded(mine), kind) for component, mine in names.items()}

    def _loaded(self, names: Sequence[str]) -> Mapping[str, Tensor]:
        if self.stored is not None:
            return Some(self.stored, names)
        mine = self._networks.every(*ROLES)
        return {name: self._replaced.get(name, mine[name]) for name in names}
