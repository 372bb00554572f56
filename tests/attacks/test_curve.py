"""The relearning curve: one training per subject, the same looks, rates with intervals."""

from __future__ import annotations

import pytest
import torch
from brightness import REQUEST, SAMPLER, Brightness, church_above, weights
from torch import Tensor

from expunge.attacks.base import Goal, Victim
from expunge.attacks.curve import Curve, Subject, relearning_curve
from expunge.attacks.relearn import Lesson
from expunge.errors import UserError
from expunge.finetune import FineTune
from expunge.metrics.base import Answer
from expunge.metrics.statistics import wilson
from expunge.models.sd import StableDiffusion
from expunge.records import Prompt, Score

PROMPTS = [Prompt(text=text, role="direct") for text in REQUEST.prompts]
WHITE = Lesson(torch.ones(2, 3, 16, 16), ("a church", "a dog"), "the user")
BLACK = Lesson(torch.zeros(2, 3, 16, 16), ("a house", "a house"), "the user")
TUNE = FineTune(steps=6, batch=2, rate=3e-3, drop=0.0)


def test_every_look_is_a_rate_over_all_pictures(model: StableDiffusion) -> None:
    before, goal = weights(model), church_above(2.0)
    curves = relearning_curve(Victim(model, None, SAMPLER),
                              [Subject("church", WHITE, PROMPTS, goal), Subject("blorp", BLACK, PROMPTS, goal)],
                              TUNE, at=(0, 3), seeds=(0, 1))
    assert [curve.subject for curve in curves] == ["church", "blorp"]
    for curve in curves:
        assert [steps for steps, _ in curve.points] == [0, 3, 6]
        for steps, score in curve.points:
            assert score.name == f"relearn/{curve.subject}/{steps}"
            assert (score.numerator, score.n, len(score.per_item)) == (0, 4, 4)
            assert (score.low, score.high) == wilson(0, 4)
            assert "all, rate 0.003, batch 2, on 2 pictures of the user" in score.note
    assert isinstance(goal.judge, Brightness)
    church, blorp = goal.judge.seen[:3], goal.judge.seen[3:]
    assert torch.allclose(church[0], blorp[0], atol=1e-6), "both begin at the same model"
    assert not torch.allclose(church[2], blorp[2], atol=1e-3), "and learn something else"
    assert all(torch.equal(value, before[name]) for name, value in weights(model).items())


def test_rate_follows_the_judge(model: StableDiffusion) -> None:
    watching = church_above(2.0)
    victim = Victim(model, None, SAMPLER)
    relearning_curve(victim, [Subject("church", WHITE, PROMPTS, watching)], TUNE, at=(0, 3))
    assert isinstance(watching.judge, Brightness)
    means = torch.stack([look.mean((1, 2, 3)) for look in watching.judge.seen])  # (3 looks, 2 items)
    limit = float(means.median())
    (curve,) = relearning_curve(victim, [Subject("church", WHITE, PROMPTS, church_above(limit))], TUNE, at=(0, 3))
    assert [score.numerator for _, score in curve.points] == (means > limit).sum(1).tolist()


def test_pictures_that_the_judge_failed_on_are_left_out(model: StableDiffusion) -> None:
    class Half(Brightness):
        def __call__(self, pictures: Tensor) -> list[Answer]:
            answers = super().__call__(pictures)
            return [Answer({}, {}, "broken") if i % 2 else answer for i, answer in enumerate(answers)]

    subject = Subject("church", WHITE, PROMPTS, Goal(Half(-1.0), "object", "church"))
    tune = TUNE.model_copy(update={"steps": 1})
    (curve,) = relearning_curve(Victim(model, None, SAMPLER), [subject], tune, at=(), seeds=(0, 1))
    score = curve.points[0][1]
    assert (score.numerator, score.n, score.left_out) == (2, 2, {"detector failed": 2})


def test_steps_to_a_rate() -> None:
    score = Score(name="", title="", value=None)
    points = tuple((steps, score.model_copy(update={"value": value}))
                   for steps, value in ((0, 0.0), (10, None), (20, 0.5), (40, 0.4), (80, 1.0)))
    assert Curve("church", points).steps_to(0.5) == 20
    assert Curve("church", points).steps_to(0.9) == 80
    assert Curve("church", points[:2]).steps_to(0.5) is None


def test_pictures_of_another_size_are_refused(model: StableDiffusion) -> None:
    odd = Lesson(torch.ones(1, 3, 15, 16), ("a church",), "the user")
    with pytest.raises(UserError, match="multiples of 2"):
        relearning_curve(Victim(model, None, SAMPLER), [Subject("church", odd, PROMPTS, church_above(0))], at=())
