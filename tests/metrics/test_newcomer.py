"""A detector learned on the spot: right on what it has not seen, silent where it is unsure, honest about both."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from expunge.errors import UserError
from expunge.metrics.newcomer import OTHER, QUESTION, learn_newcomer


class Means:
    """An image's mean and spread per channel."""

    name = "means@1"
    width = 6

    def __call__(self, pictures: Tensor) -> Tensor:
        return torch.cat([pictures.mean((2, 3)), pictures.std((2, 3))], 1)


def pictures(count: int, level: float, seed: int, noise: float = 0.1) -> Tensor:
    """Images around one grey level, which itself varies a little."""
    generator = torch.Generator().manual_seed(seed)
    levels = level + 0.05 * torch.randn(count, 1, 1, 1, generator=generator)
    return (levels + noise * torch.randn(count, 3, 8, 8, generator=generator)).clamp(0, 1)


def test_it_tells_the_thing_from_other_things() -> None:
    detector = learn_newcomer("blorp", Means(), pictures(60, 0.7, 0), pictures(60, 0.3, 1))
    assert detector.questions == {QUESTION: ("blorp", OTHER)}
    for level, label in ((0.7, "blorp"), (0.3, OTHER)):
        told = [answer.answers.get(QUESTION) for answer in detector(pictures(20, level, 9))]
        assert told.count(label) >= 18
    assert detector.score.value == 1.0
    assert detector.score.n == 20
    assert "it takes 0 of 20 held-out images of other things for blorp" in detector.score.note
    assert detector.score.low is not None
    assert detector.score.low < 1


def test_it_abstains_where_it_cannot_tell() -> None:
    detector = learn_newcomer("blorp", Means(), pictures(60, 0.7, 0), pictures(60, 0.3, 1))
    answers = detector(pictures(10, 0.5, 5, noise=0.02) * 0 + 0.5)
    middle = detector.probability(torch.full((1, 3, 8, 8), 0.5))
    assert 0 < float(middle) < 1
    edge = learn_newcomer("blorp", Means(), pictures(60, 0.52, 0), pictures(60, 0.48, 1))
    told = [answer.answers for answer in edge(pictures(40, 0.5, 5))]
    assert len(answers) == 10
    assert told.count({}) > 20
    assert (edge.score.numerator or 0) < 20
    assert edge.score.n == 20


def test_held_out_score_is_not_that_of_training() -> None:
    """Labels without meaning: more features than images fit the training images, not the others."""

    class Pixels(Means):
        width = 192

        def __call__(self, pictures: Tensor) -> Tensor:
            return pictures.flatten(1)

    noise = torch.rand(60, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    detector = learn_newcomer("nothing", Pixels(), noise[:30], noise[30:], threshold=0.51)
    kept = [i for i in range(30) if i % 3 != 2]
    right = [a.answers.get(QUESTION) for a in detector(noise[kept])].count("nothing")
    assert right == len(kept)
    assert detector.score.value is not None
    assert detector.score.value < 0.85


def test_a_detector_that_never_sees_the_thing_is_not_right_for_seeing_nothing_elsewhere() -> None:
    thing = pictures(36, 0.5, 0)
    detector = learn_newcomer("blorp", Means(), thing, torch.cat([thing, pictures(120, 0.5, 1)]), threshold=0.51)
    strict = learn_newcomer("blorp", Means(), thing, torch.cat([thing, pictures(120, 0.5, 1)]), threshold=0.99)
    assert detector.score.n == strict.score.n == 12
    assert (strict.score.numerator, strict.score.value) == (0, 0.0)


def test_the_smaller_class_weighs_as_much() -> None:
    detector = learn_newcomer("blorp", Means(), pictures(12, 0.55, 0), pictures(300, 0.45, 1), threshold=0.51)
    assert 0.3 < float(detector.probability(pictures(200, 0.5, 3)).mean()) < 0.7


def test_same_pictures_same_detector_and_broken_pictures_are_errors() -> None:
    first, second = (learn_newcomer("blorp", Means(), pictures(20, 0.7, 0), pictures(20, 0.3, 1)) for _ in range(2))
    assert first.name == second.name
    assert torch.equal(first.weight, second.weight)
    broken = pictures(2, 0.7, 4)
    broken[1, 0, 0, 0] = float("nan")
    good, bad = first(broken)
    assert not good.error
    assert bad.error
    assert not bad.answers
    assert first(broken[:0]) == []


def test_too_few_pictures_and_bad_thresholds_are_refused() -> None:
    with pytest.raises(UserError, match="at least 12"):
        learn_newcomer("blorp", Means(), pictures(5, 0.7, 0), pictures(60, 0.3, 1))
    with pytest.raises(UserError, match="threshold"):
        learn_newcomer("blorp", Means(), pictures(20, 0.7, 0), pictures(20, 0.3, 1), threshold=1.5)
