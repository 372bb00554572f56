"""What all records share: frozen, strict, JSON both ways, addressed by content."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError
from typing_extensions import Self

from expunge import untrusted
from expunge.errors import RecordError

_TOLD = 20
"""Mistakes that a message tells one by one."""
_SPELT = 1000
"""Most mistakes of which any is told: pydantic spells out all of them, or none."""
_LISTS = {"list", "tuple", "set", "frozenset"}


def _left_early(schema: Any) -> Any:
    """A schema of pydantic whose lists, at any depth, end at the first mistake."""
    if isinstance(schema, dict):
        made = {name: _left_early(part) for name, part in schema.items()}
        return {**made, "fail_fast": True} if made.get("type") in _LISTS else made
    return [_left_early(part) for part in schema] if isinstance(schema, list) else schema


class Record(BaseModel):
    """Base of all records: frozen, no unknown keys, stable digest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def __init__(self, **values: Any) -> None:
        """Raises: RecordError: with every mistake."""
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise RecordError(_mistakes(type(self), error)) from error

    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]  # records inside are validated by the schema

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> Any:
        """Lists are left at their first mistake: a small file of millions would take gigabytes to tell of all."""
        return _left_early(handler(source))

    @classmethod
    def read(cls, text: str) -> Self:
        """The record that `text`, its JSON, holds.

        Raises:
            ValueError: it is no JSON or no such record; every mistake in one line, of a list's or of many the first.
        """
        try:
            untrusted.json_in(text)  # refuses what pydantic passes over, as a key that stands twice or a text too long
            return cls.model_validate_json(text)
        except untrusted.Unreadable as error:
            raise ValueError(f"{cls.__name__}: {error}") from error
        except ValidationError as error:
            raise ValueError(_mistakes(cls, error)) from (None if error.error_count() > _SPELT else error)

    @property
    def digest(self) -> str:
        """sha256 (first 16 hex digits) of the record's canonical JSON."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _mistakes(cls: type[BaseModel], error: ValidationError) -> str:
    """One line of all mistakes, or of the first of many."""
    if error.error_count() > _SPELT:
        return f"{cls.__name__}: {error.error_count()} mistakes"
    told = error.errors()[:_TOLD]
    wrong = [": ".join([*(untrusted.shortened(str(part)) for part in item["loc"]), item["msg"]]) for item in told]
    more = [f"and {error.error_count() - len(told)} more mistakes"] * (error.error_count() > len(told))
    return f"{cls.__name__}: {'; '.join([*wrong, *more])}"
