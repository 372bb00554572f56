"""What all records share: frozen, strict, JSON both ways, addressed by content."""

from __future__ import annotations

import hashlib
import json

from pydantic import BaseModel, ConfigDict, ValidationError
from typing_extensions import Self

from expunge import untrusted

_TOLD = 20
"""Mistakes that a message tells one by one."""


class Record(BaseModel):
    """Base of all records: frozen, no unknown keys, stable digest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def read(cls, text: str) -> Self:
        """The record that `text`, its JSON, holds.

        Raises:
            ValueError: it is no JSON or no such record; every mistake in one line, of many the first.
        """
        try:
            made = cls.model_validate_json(text)
            untrusted.json_in(text)  # which refuses what pydantic passes over, as a key that stands twice
            return made
        except untrusted.Unreadable as error:
            raise ValueError(f"{cls.__name__}: {error}") from error
        except ValidationError as error:
            told = error.errors()[:_TOLD]
            wrong = [": ".join([*(untrusted.shortened(str(part)) for part in item["loc"]), item["msg"]])
                     for item in told]
            more = [f"and {error.error_count() - len(told)} more mistakes"] * (error.error_count() > len(told))
            raise ValueError(f"{cls.__name__}: {'; '.join([*wrong, *more])}") from error

    @property
    def digest(self) -> str:
        """sha256 (first 16 hex digits) of the record's canonical JSON."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]
