"""Small sequences: on a very small pipeline with random weights, where what is tested is the bookkeeping."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

for other in ("evaluation", "report"):  # their made-up world and evaluations
    sys.path.insert(0, str(Path(__file__).parents[1] / other))

STEPS: dict[str, Any] = {"source": {"trajectories": 2, "grid": 3}, "batch": 2, "steps": 3, "learning_rate": 0.01}
"""Settings of `esd` that change weights in a second."""


@pytest.fixture(scope="session")
def small(pipeline_folder: Path) -> dict[str, Any]:
    """The file of a sequence as a mapping: two requests, replay, few images."""
    return {
        "model": str(pipeline_folder), "device": "cpu", "method": "esd", "settings": STEPS, "strategy": "replay",
        "holding": {"every": 1, "replay": {"trajectories": 2, "grid": 3, "batch": 2},
                    "others": {"trajectories": 3, "grid": 3,
                               "prompts": {"things": ["knife", "hospital"], "similar": 1.0}}},
        "requests": [{"concept": "church", "who": "a rights holder", "when": "2026-11-01", "evidence": "ticket 17"},
                     {"concept": "dog"}],
        "evaluation": {"counts": {"direct": 2, "held_out": 0, "near": 2, "far": 2, "empty": 0, "never_seen": 0},
                       "seeds": 2, "steps": 2, "guidance": 1.0, "batch": 4, "floor_items": 0, "draws": 100,
                       "fid_draws": 20, "strips": 0}}
