"""A patch as an argument: its folder, either of its files, or its name on the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from expunge.cli.terminal import echo


class PatchName(click.ParamType):  # type: ignore[type-arg]  # generic in newer releases alone
    """A path; of a name on the Hub (hf://OWNER/NAME@REVISION) that of the patch that was downloaded.

    Args:
        beside: results go beside it, so that it is brought into a folder of the user's.
    """

    name = "patch"

    def __init__(self, beside: bool = False) -> None:
        self.beside = beside

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if not isinstance(value, str) or not value.startswith("hf://"):
            return Path(value)
        from expunge.models.hub import brought, fetched

        folder = brought(value) if self.beside else fetched(value)
        echo(f"pulled: {value} into {folder}", err=True)
        return folder
