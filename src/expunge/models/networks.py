"""A family's networks by component, role and full name, and the one place that says which of them are needed."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from expunge.errors import ModelError
from expunge.models import scope as scopes
from expunge.models.base import Denoiser, Role
from expunge.models.residence import Residence
from expunge.models.wrapped import why_not_plain

ROLES: tuple[Role, ...] = ("denoiser", "text", "autoencoder")


class Networks:
    """The networks of one model.

    Attributes:
        residence: which of them are in memory.
    """

    def __init__(self, family: Denoiser, device: torch.device, stored: Mapping[str, Tensor] | None = None, *,
                 apart: bool = False) -> None:
        """Of networks that are on `device`; `stored` and `apart` as in `models.residence.Residence`."""
        self._family = family
        self.residence = Residence(family.components, family.roles, device, stored, apart=apart)

    def need(self, *roles: Role) -> None:
        """Have the networks in these roles in memory."""
        self.residence.need(*roles)

    def named(self, role: Role) -> list[str]:
        """The components in a role."""
        return [name for name in self._family.components if self._family.roles[name] == role]

    def roles_of(self, names: Collection[str]) -> set[Role]:
        """The roles of the components of these full names."""
        return {self._family.roles[name.partition("/")[0]] for name in names}

    def every(self, *roles: Role) -> dict[str, Parameter]:
        """All parameters in these roles by full name, in the components' order, wherever they are."""
        return {full: parameter for role in roles for component in self.named(role)
                for full, parameter in scopes.full_names(component, self._family.components[component]).items()}

    def selected(self, scope: str) -> dict[str, Parameter]:
        """Parameters of a named scope by full name, wherever they are.

        Raises:
            UserError: unknown scope, or one that selects nothing.
        """
        parts, (network,) = self._family.components, self.named("denoiser")
        texts = {name: parts[name] for name in self.named("text")}
        return scopes.select(network, parts[network], self._family.scopes, texts, scope)

    def check_plain(self) -> None:
        """ModelError: a part does not compute with its own weights, so that neither its hash nor an edit would mean it.
        """
        for component, part in self._family.components.items():
            if component not in self.residence.away:
                got, remedy = why_not_plain(component, part)
                if got:
                    raise ModelError(got, accepted="parts that compute with their own weights", remedy=remedy)


def cast_to(part: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
    """To a device and number type, but for layers that their library keeps in float32 where float16 would overflow."""
    wide = {*(getattr(part, "_keep_in_fp32_modules", None) or ())} if dtype == torch.float16 else set()
    for name, module in part.named_modules():
        mine = torch.float32 if wide.intersection(name.split(".")) else dtype
        # Cast by torch itself, layer by layer: diffusers' own `to` warns of layers to keep where there are none.
        module._apply(lambda tensor, mine=mine: tensor.to(  # type: ignore[misc]
            "meta" if tensor.is_meta else device, mine if tensor.is_floating_point() else None), recurse=False)
