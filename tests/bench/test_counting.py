"""What goes through the denoiser is counted while it does, in the model and in the teacher that a run copies of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from expunge.bench.counting import counted
from expunge.records import Request
from expunge.unlearn.keep import MatchTeacher
from expunge.unlearn.recipe import Recipe
from expunge.unlearn.source import FrozenTrajectory

REQUEST = Request(concept="church", prompts=("a photo of a church",), anchor="house")


@pytest.mark.parametrize("scope", ["xattn", "text"])  # the teacher's denoiser is a copy, or the student's own
def test_samples_of_student_and_teacher_count_by_whether_they_have_a_gradient(model: Any, scope: str) -> None:
    pool = FrozenTrajectory(grid=3, trajectories=2)
    recipe = Recipe(source=pool, keep=MatchTeacher(batch=3, source=pool), scope=scope, steps=5, batch=2,
                    learning_rate=1e-3)
    with counted(model) as rows:
        recipe(model, REQUEST)
    trajectories = 2 * 2 * (2 * (3 - 1) + 1)  # of two pools, guided but for the last point
    targets = 2 * 2 * 3  # to steer, what is said for the anchor and for nothing; for the prompts it is known by then
    assert (rows.frozen, rows.trained) == (trajectories + targets, 5 * (2 + 3))
    with torch.no_grad():
        model.predict(model.initial_noise([0]), torch.tensor([0.0]), model.encode([""]))
    assert rows.frozen == trajectories + targets, "what comes afterwards does not count"
