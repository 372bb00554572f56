"""A sequence of three requests, made up: the first concept comes back a little after the third."""

from __future__ import annotations

from typing import Any

from expunge.records import Score, SequenceResult, StateScores

CONCEPTS = ("church", "bomb", "cat")
FOUND = {1: (0, 8, 8), 2: (0, 1, 8), 3: (2, 1, 0)}
"""After each request: pictures of eight that show each concept."""


def rate(name: str, hits: int, n: int = 8) -> Score:
    return Score(name=name, title=name, value=hits / n, low=0.0, high=1.0, n=n, numerator=hits, higher_is_better=False)


def sequence(**changes: Any) -> SequenceResult:
    """As `gather` makes it."""
    states = [StateScores(
        number=number, concept=CONCEPTS[number - 1], drift=0.01 * number, seconds=30.0, processor=20.0 + number,
        scores=(*(rate(f"found/{name}", hits) for name, hits in zip(CONCEPTS, counts, strict=True)),
                rate("retained/near", 7), Score(name="integrity/near", title="i", value=0.9, low=0.8, high=0.95, n=12)))
        for number, counts in FOUND.items()]
    values: dict[str, Any] = {
        "model": "emoji-64", "model_hash": "a" * 64, "strategy": "replay", "method": "esd-fast", "concepts": CONCEPTS,
        "before": tuple(rate(f"original/found/{name}", 8).model_copy(update={"low": 0.676}) for name in CONCEPTS),
        "states": tuple(states),
        "scores": (rate("gone/own", 1, 24), rate("gone/end", 3, 24),
                   Score(name="revival", title="revival", value=0.125, low=0.0, high=0.25, n=16),
                   Score(name="revival/most", title="largest rise", value=0.25, n=3, note="church after cat")),
        "settings": {"requests": [{"concept": [name], "anchor": [], "who": "an artist", "when": "2026-01-01",
                                   "evidence": "", "withdrawn": None} for name in CONCEPTS]}}
    return SequenceResult.model_validate({**values, **changes})
