"""A detector of a real property, simple enough to check by hand, and items of which it finds about half."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from brightness import Brightness

from expunge.attacks.victim import Goal, Item, Victim
from expunge.metrics.base import Aim
from expunge.records import Prompt, Request, Sampler

sys.path.insert(0, str(Path(__file__).parents[1] / "evaluation"))  # its made-up worlds


@pytest.fixture
def request_() -> Request:
    return Request(concept="bright", prompts=("a church on a hill", "a picture of a dog"))


@pytest.fixture
def items() -> list[Item]:
    return [(Prompt(text=text, role="direct"), seed) for text in ("a church on a hill", "a house by the sea",
            "a picture of a dog") for seed in (0, 1)]


@pytest.fixture
def victim(model: Any) -> Victim:
    return Victim(model, None, Sampler(steps=3, guidance=2.0))


@pytest.fixture
def goal(victim: Victim, items: list[Item]) -> Goal:
    """Success: brighter than the median of the items' own images."""
    pictures = victim.draw([prompt.text for prompt, _ in items], [seed for _, seed in items])
    middle = float(pictures.mean((1, 2, 3)).median())
    return Goal(Brightness(middle), Aim("bright", "light"))
