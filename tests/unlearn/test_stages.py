"""What a run will take is measured on its own beginning, and nothing is left of that."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch

from expunge.records import Request
from expunge.unlearn import stages
from expunge.unlearn.dual import Dual
from expunge.unlearn.keep import MatchTeacher
from expunge.unlearn.recipe import Recipe
from expunge.unlearn.saliency import Masked
from expunge.unlearn.source import FrozenTrajectory
from expunge.unlearn.stages import ITEMS, Rehearsal, Stages

REQUEST = Request(concept="church", prompts=("a photo of a church",), anchor="house", keep=("a photo of a dog",))
POOL = FrozenTrajectory(grid=4, trajectories=20)
RECIPE = Recipe(source=POOL, keep=MatchTeacher(batch=1, source=POOL), update=Dual(update=Masked(draws=50)), steps=40,
                batch=2, frozen_batch=2, learning_rate=1e-3)


def test_all_of_a_stage_is_done_and_told_of() -> None:
    told: list[tuple[int, int]] = []
    work = Stages(lambda done, total, losses: told.append((done, total)))
    assert list(work.each("abc")) == ["a", "b", "c"]
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_rehearsal_does_a_few_items_and_counts_all() -> None:
    work, done = Rehearsal(torch.device("cpu")), []
    for item in work.each(range(1000)):
        time.sleep(0.02)
        done.append(item)
    assert done == list(range(1 + ITEMS))
    assert work.counted == ITEMS
    assert 20 <= work.seconds < 40


def test_a_stage_within_an_item_is_none_of_its_time() -> None:
    work = Rehearsal(torch.device("cpu"))
    for _ in work.each(range(1000)):
        for _ in work.each(range(10)):
            time.sleep(0.02)
    assert work.seconds < 10  # five items, each with a stage of 0.2 s; a thousand of them would be 100 s and more


def test_a_slow_item_is_timed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "SLOW", 0.01)
    monkeypatch.setattr(stages, "ENOUGH", 0.01)
    work, done = Rehearsal(torch.device("cpu")), []
    for item in work.each(range(10)):
        time.sleep(0.02)
        done.append(item)
    assert (done, work.counted) == ([0], 1)
    assert 0.2 <= work.seconds < 0.4


PICTURES = {"kind": "noised", "pictures": 2, "grid": 4}


@pytest.mark.slow
@pytest.mark.parametrize("changes", [
    {"scope": "xattn"}, {"scope": "text"},
    {"update": {"kind": "lookahead", "lengths": [2], "source": PICTURES}},
    {"objective": "compose", "adversary": {"kind": "words", "count": 1, "erase_steps": 40, "search_steps": 40,
                                           "source": PICTURES}}],
                         ids=["xattn", "text", "lookahead", "words"])
def test_an_estimate_runs_little_of_a_recipe_and_undoes_it(model: Any, monkeypatch: pytest.MonkeyPatch,
                                                           changes: dict[str, Any]) -> None:
    recipe = RECIPE.override(changes)
    alone = recipe.override({"steps": 3})(model, REQUEST).tensors
    rows, kind = [], type(model)
    predict = kind.predict
    monkeypatch.setattr(kind, "predict", lambda self, x, *more: rows.append(len(x)) or predict(self, x, *more))
    before = {name: p.clone() for name, p in model.parameters_in("all").items()}
    told = recipe.estimate(model, REQUEST)
    asked = sum(rows)
    rows.clear()
    assert all(torch.equal(before[name], p) and p.grad is None for name, p in model.parameters_in("all").items())
    assert told["measured"].startswith(f"{ITEMS} of 40 steps")
    assert told["seconds"] > 0
    after = recipe.override({"steps": 3})(model, REQUEST).tensors
    assert all(torch.equal(after[name], alone[name]) for name in alone)
    rows.clear()
    recipe(model, REQUEST)
    assert asked < sum(rows) / 5
