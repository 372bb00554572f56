"""Which model is meant: its own place, the folder that lends what a single file lacks, and LoRAs on top."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from expunge.errors import UserError

EMBEDDED = "embedded"
"""The source name of the model in the package."""


@dataclass(frozen=True)
class Source:
    """What `--model`, `--parts` and `--lora` say together.

    Attributes:
        model: "embedded", a diffusers folder, a single safetensors file, or a Hub id.
        parts: a diffusers folder whose configs, tokenizers and, where they are missing, weights a single file takes.
        loras: LoRA files that are merged into the weights before anything else, each "FILE" or "FILE:WEIGHT".
    """

    model: str = EMBEDDED
    parts: str = ""
    loras: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.model

    @property
    def flags(self) -> list[str]:
        """The options that name it; none for the embedded model alone."""
        return [*(["--model", self.model] if self.model != EMBEDDED else []),
                *(["--parts", self.parts] if self.parts else []),
                *(word for lora in self.loras for word in ("--lora", lora))]


def source_of(source: str | Path | Source, parts: str | Path | None = None,
              lora: str | Path | Sequence[str | Path] | None = ()) -> Source:
    """The source that these say, `parts` and `lora` being added to what `source` names itself."""
    base = source if isinstance(source, Source) else Source(str(source))
    more = (str(lora),) if isinstance(lora, str | Path) else tuple(map(str, lora or ()))
    return Source(base.model, str(parts or base.parts), (*base.loras, *more))


def weighted(lora: str) -> tuple[Path, float]:
    """File and weight of "FILE:WEIGHT"; 1 where no weight is named.

    Raises:
        UserError: a weight that is not finite, or 0, at which a LoRA is none.
    """
    file, colon, weight = lora.rpartition(":")
    if not colon or Path(lora).expanduser().exists():
        return Path(lora).expanduser(), 1.0
    try:
        value = float(weight)
    except ValueError as error:
        if Path(file).expanduser().is_file():
            raise UserError(f"a LoRA with weight {weight!r}",
                            accepted="a number other than 0, such as FILE:0.8") from error
        return Path(lora).expanduser(), 1.0
    if not math.isfinite(value) or value == 0:
        raise UserError(f"a LoRA with weight {weight}", accepted="a number other than 0, such as FILE:0.8",
                        remedy="leave the LoRA out to go without")
    return Path(file).expanduser(), value
