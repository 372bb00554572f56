"""A detector of a real property, simple enough to check by hand, and items of which it finds about half."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from torch import Tensor

from expunge.attacks.base import Goal, Item, Victim
from expunge.metrics.base import Answer
from expunge.records import Prompt, Request, Sampler


class Brightness:
    """"bright" where the mean of all pixels is above a threshold, "dark" elsewhere; fails on pictures of one colour."""

    name = "brightness@1"
    questions: Mapping[str, tuple[str, ...]] = {"light": ("bright", "dark")}

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold

    def __call__(self, pictures: Tensor) -> list[Answer]:
        answers = []
        for picture in pictures:
            value = float(picture.mean())
            flat = bool((picture == picture[:, :1, :1]).all())
            answers.append(Answer({}, {}, "a picture of one colour") if flat else
                           Answer({"light": "bright" if value > self.threshold else "dark"}, {"light": 1.0}))
        return answers


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
    """Success: brighter than the median of the items' own pictures."""
    pictures = victim.draw([prompt.text for prompt, _ in items], [seed for _, seed in items])
    middle = float(pictures.mean((1, 2, 3)).median())
    return Goal(Brightness(middle), "light", "bright")
