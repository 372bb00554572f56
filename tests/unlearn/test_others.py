"""What the student says at the concept's latents when told other things."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from expunge.errors import ExpungeError
from expunge.records import Request
from expunge.unlearn.context import TrainContext
from expunge.unlearn.integrity import Integrity
from expunge.unlearn.others import Others
from expunge.unlearn.source import FrozenTrajectory

REQUEST = Request(concept="church", prompts=("a church on a hill",), anchor="house", keep=("a dog", "a castle"))
POOL = FrozenTrajectory(grid=3, trajectories=4)


def context_of(model: Any) -> TrainContext:
    teacher = model.frozen_copy()
    bare = TrainContext(model, teacher, REQUEST, 0)
    return TrainContext(model, teacher, REQUEST, 0, erasing=POOL.open(bare, REQUEST.prompts, 2, "erase"))


def test_an_untouched_student_has_nothing_to_hold(model: Any) -> None:
    for told, wide in ((3, 0), (0, 2), (2, 2)):
        others = Others(context_of(model), ("", "a dog", "a castle"), told, wide)
        assert float(others.loss(0).detach()) == pytest.approx(0.0, abs=1e-9)


def test_the_loss_is_the_gap_to_the_teacher_told_a_prompt_to_keep(model: Any) -> None:
    context = context_of(model)
    with torch.no_grad():
        for p in model.parameters_in("xattn").values():
            p.mul_(1.5)
        got = Others(context, ("a dog",), 2, 0).loss(4)
        points = context.erasing.draw(4)  # type: ignore[union-attr]
        cond = model.encode(["a dog"]).repeat(2)
        gap = model.predict(points.x_t, points.t, cond) - context.teacher.predict(points.x_t, points.t, cond)
    torch.testing.assert_close(got, gap.square().mean(), rtol=1e-4, atol=1e-7)
    assert float(got) > 0


def test_the_keep_adds_it_and_a_keep_alone_says_what_is_missing(model: Any) -> None:
    context = context_of(model)
    with torch.no_grad():
        for p in model.parameters_in("xattn").values():
            p.mul_(1.5)
        keep = Integrity(batch=2, source=FrozenTrajectory(grid=3, guidance=2.0, trajectories=3))
        bare, more = (float(one.prepare(context).loss(1)) for one in (keep, keep.model_copy(update={"beside": 2})))
    assert more > bare
    with pytest.raises(ExpungeError, match="outside a recipe"):
        Others(TrainContext(model, model, REQUEST, 0), ("",), 1, 0)
