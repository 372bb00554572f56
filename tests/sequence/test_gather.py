"""What a sequence comes to, from values that were written by hand."""

from __future__ import annotations

import math

import pytest
import torch
from colour_world import edit

from expunge.models.scope import full_names
from expunge.records import Score, StateScores
from expunge.sequence.gather import _over_all, drift


def state(number: int, concept: str, found: dict[str, list[int]]) -> StateScores:
    items = {f"found/{name}": {f"a {name} | {seed}": float(value) for seed, value in enumerate(values)}
             for name, values in found.items()}
    scores = tuple(Score(name=name, title=name, value=sum(values.values()) / len(values), n=len(values),
                         numerator=round(sum(values.values()))) for name, values in items.items())
    return StateScores(number=number, concept=concept, items=items, scores=scores)


STATES = [
    state(1, "church", {"church": [0, 0, 0, 1], "bomb": [1, 1, 1, 1], "cat": [1, 1, 1, 1]}),
    state(2, "bomb", {"church": [1, 1, 1, 1], "bomb": [0, 0, 0, 0], "cat": [1, 1, 1, 1]}),
    state(4, "cat", {"church": [0, 1, 0, 1], "bomb": [0, 0, 0, 1], "cat": [0, 0, 0, 0]}),
]
NAMES = {"church": ("church",), "bomb": ("bomb",), "cat": ("cat",)}


def test_what_comes_back_is_counted_picture_by_picture() -> None:
    scores = {score.name: score for score in _over_all(STATES, NAMES)}
    assert (scores["gone/own"].numerator, scores["gone/own"].n) == (1, 12)
    assert (scores["gone/end"].numerator, scores["gone/end"].n) == (3, 12)
    assert scores["revival"].value == pytest.approx(0.25)  # church and bomb, each one of four more
    assert (scores["revival"].n, scores["revival"].low) == (8, 0.25)
    assert scores["revival/most"].value == pytest.approx(0.75)  # church, after bomb
    assert scores["revival/most"].note.startswith("church after bomb")
    assert scores["revival/most"].low is None


def test_the_last_concept_cannot_come_back() -> None:
    names = [score.name for score in _over_all(STATES[:1], {"church": ("church",)})]
    assert names == ["gone/own", "gone/end"]


def test_drift_is_the_distance_in_parts_of_the_norm(model: object) -> None:
    patch = edit(model, 0.01)
    mine = full_names("unet", model.unet) | full_names("text_encoder", model.text_encoder)  # type: ignore[attr-defined]
    moved = torch.cat([(value - mine[name]).flatten() for name, value in patch.tensors.items()]).double().norm()
    whole = torch.cat([p.flatten() for p in mine.values()]).double().norm()
    assert math.isclose(drift(patch, model), float(moved / whole), rel_tol=1e-6)  # type: ignore[arg-type]
