"""What all records share: frozen, strict, JSON both ways, addressed by content."""

from __future__ import annotations

import hashlib
import json

from pydantic import BaseModel, ConfigDict, ValidationError
from typing_extensions import Self


class Record(BaseModel):
    """Base of all records: frozen, no unknown keys, stable digest."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def read(cls, text: str) -> Self:
        """The record that `text`, its JSON, holds.

        Raises:
            ValueError: it is no JSON or no such record; every mistake in one line.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            wrong = "; ".join(": ".join([*(str(part) for part in item["loc"]), item["msg"]]) for item in error.errors())
            raise ValueError(f"{cls.__name__}: {wrong}") from error

    @property
    def digest(self) -> str:
        """sha256 (first 16 hex digits) of the record's canonical JSON."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]
