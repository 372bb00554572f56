"""Settings: one schema for files, flags and Python; unknown keys are errors; all mistakes are shown at once.

`knob` is a thin word over pydantic's `Field`: default, description, unit and source are stated once, where the
setting is born; help texts, dry runs, cards and reports are generated from it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from typing_extensions import Self

from expunge.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def knob(default: Any = ..., description: str = "", *, unit: str | None = None, source: str | None = None,
         **limits: Any) -> Any:
    """A setting with its manual. `limits` are pydantic's (ge, gt, le, lt, pattern, min_length)."""
    extra: dict[str, Any] = {key: value for key, value in (("unit", unit), ("source", source)) if value is not None}
    return Field(default, description=description, json_schema_extra=extra or None, **limits)


class Settings(BaseModel):
    """Base of everything that can be set: frozen, strict about unknown keys, JSON both ways."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def build(cls, values: Mapping[str, Any], origin: str = "settings") -> Self:
        """Validate `values`; every mistake is in the one error that is raised.

        Raises:
            ConfigError: with one line per mistake (where, what was got, what is accepted).
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise ConfigError(f"{origin}: " + "; ".join(_mistake(item, cls) for item in error.errors())) from error


def read_settings_file(path: Path) -> dict[str, Any]:
    """The mapping in a YAML or TOML file (by its ending).

    Raises:
        ConfigError: no such file, another ending, bad syntax, or no mapping at the top.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read settings from {path}: {error}", accepted="a YAML or TOML file") from error
    try:
        if path.suffix == ".toml":
            values: Any = tomllib.loads(text)
        elif path.suffix in {".yaml", ".yml"}:
            import yaml

            values = yaml.safe_load(text) or {}
        else:
            raise ConfigError(f"unknown kind of settings file: {path.name}", accepted=".yaml, .yml or .toml")
    except ConfigError:
        raise
    except Exception as error:  # the two parsers share no base class
        raise ConfigError(f"{path} cannot be parsed: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds {type(values).__name__}", accepted="a mapping of settings")
    return values


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """The layers merged deeply; later ones win; dotted keys ("objective.eta") reach inside."""
    out: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            node, parts = out, key.split(".")
            for part in parts[:-1]:
                child = node.get(part)
                node[part] = child if isinstance(child, dict) else {}
                node = node[part]
            leaf = parts[-1]
            if isinstance(value, Mapping) and isinstance(node.get(leaf), dict):
                node[leaf] = merged(node[leaf], value)
            else:
                node[leaf] = dict(value) if isinstance(value, Mapping) else value
    return out


def _mistake(item: Any, cls: type[BaseModel]) -> str:
    where = ".".join(str(part) for part in item["loc"]) or "(top)"
    if item["type"] == "extra_forbidden":
        import difflib

        close = difflib.get_close_matches(str(item["loc"][-1]), list(cls.model_fields), n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(cls.model_fields)}"
        return f"unknown setting '{where}' ({hint})"
    return f"{where}: got {item.get('input')!r}, {item['msg'].lower()}"
