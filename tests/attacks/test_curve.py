"""The relearning curve: one training, looks on the way, rates with intervals; what is known is not made again."""

from __future__ import annotations

import pytest
import torch
from brightness import REQUEST, SAMPLER, Brightness, church_above, weights
from torch import Tensor

from expunge.attacks.curve import Subject, items_of, relearning_curve
from expunge.attacks.relearn import Lesson
from expunge.attacks.victim import Goal, Victim
from expunge.errors import UserError
from expunge.finetune import FineTune
from expunge.metrics.base import Aim
from expunge.metrics.statistics import wilson
from expunge.models.model import Model
from expunge.records import Detection, Look, Prompt

PROMPTS = [Prompt(text=text, role="direct") for text in REQUEST.prompts]
ITEMS = items_of(PROMPTS, 4)
WHITE = Lesson(torch.ones(2, 3, 16, 16), ("a church", "a dog"), "the user")
BLACK = Lesson(torch.zeros(2, 3, 16, 16), ("a house", "a house"), "the user")
TUNE = FineTune(steps=6, batch=2, learning_rate=3e-3, drop=0.0)


def test_every_look_is_a_rate_over_all_pictures(model: Model) -> None:
    before, goal = weights(model), church_above(2.0)
    for lesson, name in ((WHITE, "church"), (BLACK, "blorp")):
        curve = relearning_curve(Victim(model, None, SAMPLER), Subject("original", name, lesson, ITEMS, goal), TUNE,
                                 at=(0, 3))
        assert (curve.of, curve.subject, curve.pictures, curve.whose) == ("original", name, 2, "the user")
        assert [look.steps for look in curve.looks] == [0, 3, 6]
        for look in curve.looks:
            score = look.found
            assert score.name == f"relearn/original/{look.steps}"
            assert (score.numerator, score.n, len(score.per_item)) == (0, 4, 4)
            assert (score.low, score.high) == wilson(0, score.prompts)
            assert "all, learning rate 0.003, batch 2, on 2 images of the user" in score.note
    assert isinstance(goal.judge, Brightness)
    church, blorp = goal.judge.seen[:3], goal.judge.seen[3:]
    assert torch.allclose(church[0], blorp[0], atol=1e-6), "both begin at the same model"
    assert not torch.allclose(church[2], blorp[2], atol=1e-3), "and learn something else"
    assert all(torch.equal(value, before[name]) for name, value in weights(model).items())


def test_rate_follows_the_judge_and_known_looks_are_not_drawn_again(model: Model) -> None:
    victim, watching, kept = Victim(model, None, SAMPLER), church_above(2.0), list[Look]()
    steps: list[int] = []
    relearning_curve(victim, Subject("edited", "church", WHITE, ITEMS, watching), TUNE, at=(0, 3), tell=steps.append)
    assert steps == [1, 2, 3, 4, 5, 6]
    assert isinstance(watching.judge, Brightness)
    means = torch.stack([look.mean((1, 2, 3)) for look in watching.judge.seen])  # (3 looks, 4 items)
    again = church_above(float(means.median()))
    subject = Subject("edited", "church", WHITE, ITEMS, again)
    whole = relearning_curve(victim, subject, TUNE, at=(0, 3), keep=kept.append)
    assert [look.found.numerator for look in whole.looks] == (means > float(means.median())).sum(1).tolist()
    assert tuple(kept) == whole.looks
    assert isinstance(again.judge, Brightness)
    again.judge.seen.clear()
    resumed = relearning_curve(victim, subject, TUNE, at=(0, 3), known={look.steps: look for look in kept[:2]})
    assert resumed.looks == whole.looks
    assert len(again.judge.seen) == 1
    done = relearning_curve(victim, subject, TUNE, at=(0, 3), known={look.steps: look for look in kept},
                            tell=lambda steps: pytest.fail("trained though all looks are known"))
    assert done.looks == whole.looks


def test_pictures_that_the_judge_failed_on_are_left_out(model: Model) -> None:
    class Half(Brightness):
        def __call__(self, pictures: Tensor) -> list[Detection]:
            answers = super().__call__(pictures)
            return [Detection(error="broken") if i % 2 else answer for i, answer in enumerate(answers)]

    subject = Subject("edited", "church", WHITE, ITEMS, Goal(Half(-1.0), Aim("church", "object")))
    curve = relearning_curve(Victim(model, None, SAMPLER), subject, TUNE.model_copy(update={"steps": 1}), at=())
    score = curve.looks[0].found
    assert (score.numerator, score.n, score.left_out) == (2, 2, {"detector failed": 2})


def test_items_take_every_prompt_before_the_next_seed() -> None:
    asked = [(prompt.text, seed) for prompt, seed in items_of(PROMPTS, 5, first_seed=7)]
    assert asked == [("a church", 7), ("a church on a hill", 7), ("a church", 8), ("a church on a hill", 8),
                     ("a church", 9)]


def test_a_text_that_is_there_twice_gets_seeds_of_its_own() -> None:
    again = [Prompt(text="a church", role="direct", seed=seed) for seed in range(3)]
    asked = items_of(again, 6)
    assert [seed for _, seed in asked] == [0, 1, 2, 3, 4, 5]
    assert len({(prompt.text, seed) for prompt, seed in items_of([*again, *PROMPTS], 17)}) == 17


def test_pictures_of_another_size_are_refused(model: Model) -> None:
    odd = Lesson(torch.ones(1, 3, 15, 16), ("a church",), "the user")
    with pytest.raises(UserError, match="multiples of 2"):
        relearning_curve(Victim(model, None, SAMPLER), Subject("edited", "church", odd, ITEMS, church_above(0)), at=())
