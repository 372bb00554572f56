"""A small bench on a very small pipeline with random weights, in a world whose judge sees which side is brighter."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

for other in ("evaluation", "report"):  # their made-up worlds and benches
    sys.path.insert(0, str(Path(__file__).parents[1] / other))

STEPS = {"source": {"trajectories": 2, "grid": 3}, "batch": 2}


@pytest.fixture(scope="session")
def small(pipeline_folder: Path) -> dict[str, Any]:
    """The file of a bench as a mapping: two methods, one concept, two seeds, one attack, few images."""
    return {
        "model": str(pipeline_folder), "device": "cpu", "seeds": [0, 1], "draws": 100,
        "methods": [{"method": "esd", "settings": {**STEPS, "steps": 2}},
                    {"method": "esd", "label": "stronger", "settings": {**STEPS, "steps": 4, "learning_rate": 0.05}}],
        "concepts": [{"concept": "church"}],
        "attack": {"attacks": ["seed-search"], "options": {"seed-search": {"tries": 2}}, "count": 4, "seeds": 4,
                   "control_items": 0, "fresh": 1, "steps": 2, "guidance": 1.0, "each": True},
        "evaluation": {"counts": {"direct": 2, "held_out": 2, "near": 2, "far": 2, "empty": 1}, "seeds": 2, "steps": 2,
                       "guidance": 1.0, "batch": 4, "floor_items": 2, "draws": 100, "fid_draws": 20, "strips": 0}}
