"""What lies in a folder, for tests that compare two runs: every file, and what the files hold but for the clock."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from expunge.locks import LOCK

CLOCK = {"seconds", "created", "made", "processor", "peak_memory", "machine", "seal", "previous"}
UNCOUNTED = {"unet_frozen", "unet_trained"}
"""What an edit that was interrupted says is None: how many samples all of its runs together took."""


def raw(folder: Path) -> dict[str, bytes]:
    """Every file but locks, by name."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*"))
            if file.is_file() and file.name != LOCK}


def told(folder: Path) -> dict[str, Any]:
    """What the files hold, without what goes by the clock."""
    return {name: content(folder / name) for name in raw(folder)}


def content(file: Path) -> Any:
    """The same of one file."""
    if file.suffix == ".safetensors":
        with safe_open(file, "pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (not a dict)
        return {name: tensor.contiguous().view(torch.uint8).tolist() if tensor.dim() else tensor.item()
                for name, tensor in tensors.items()}
    if file.suffix == ".jsonl":
        return [_timeless(json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]
    return _timeless(json.loads(file.read_text(encoding="utf-8"))) if file.suffix == ".json" else file.read_bytes()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _timeless(item) for key, item in value.items() if key not in CLOCK | UNCOUNTED}
    return [_timeless(item) for item in value] if isinstance(value, list) else value
