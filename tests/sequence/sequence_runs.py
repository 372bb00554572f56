"""Running small sequences in tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from colour_world import attacked_world

from expunge.config import merged
from expunge.models.patch import Patch
from expunge.records import SequenceResult
from expunge.sequence.run import run_sequence
from expunge.sequence.settings import SequenceSettings


def run(small: dict[str, Any], out: Path, *changes: dict[str, Any], **more: Any) -> SequenceResult:
    return run_sequence(SequenceSettings.build(merged(small, *changes)), out=out, world=attacked_world(), **more)


def hashes(result: SequenceResult) -> list[str]:
    return [state.patch_hash for state in result.states]


def ends(small: dict[str, Any], out: Path, *changes: dict[str, Any]) -> tuple[SequenceResult, list[Patch]]:
    """A sequence without measuring, and the patches of its states."""
    bare = {key: value for key, value in small.items() if key != "holding"} | {"evaluation": None}
    result = run_sequence(SequenceSettings.build(merged(bare, *changes)), out=out, world=attacked_world())
    return result, [Patch.load(out / state.folder) for state in result.states]
