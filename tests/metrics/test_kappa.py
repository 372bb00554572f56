"""Cohen's kappa and its interval."""

from __future__ import annotations

import random

import numpy as np
import pytest

from expunge.metrics.kappa import cohen_kappa, interval_words, kappa_interval


@pytest.mark.parametrize("seed", range(12))
def test_kappa_is_scikit_learns(seed: int) -> None:
    from sklearn.metrics import cohen_kappa_score

    draw = random.Random(seed)
    answers = ["yes", "no", "unsure"][:2 + seed % 2]
    pairs = [(one, one if draw.random() < 0.6 else draw.choice(answers))
             for one in draw.choices(answers, [1 + seed, 3, 2][:len(answers)], k=40)]
    mine, theirs = zip(*pairs, strict=True)
    assert cohen_kappa(pairs) == pytest.approx(cohen_kappa_score(mine, theirs), abs=1e-12)


def test_kappa_by_hand() -> None:
    pairs = [(True, True)] * 20 + [(True, False)] * 5 + [(False, True)] * 10 + [(False, False)] * 15
    assert cohen_kappa(pairs) == pytest.approx((0.7 - 0.5) / 0.5)


@pytest.mark.parametrize("pairs", [[], [(True, True)] * 9])
def test_where_chance_alone_gives_full_agreement_kappa_says_nothing(pairs: list[tuple[bool, bool]]) -> None:
    assert cohen_kappa(pairs) is None
    assert kappa_interval({"a": pairs, "b": pairs}) == (None, None, None)


def test_two_who_agree_on_everything_are_not_proved_to_agree() -> None:
    value, low, high = kappa_interval({str(k): [(k % 2 == 0,) * 2] for k in range(20)})
    assert value == high == 1
    assert low is not None
    assert 0.5 < low < 0.8


def test_one_prompt_gives_no_interval_and_alike_images_of_a_prompt_count_as_few() -> None:
    draw = random.Random(0)
    pairs = [(one, one if draw.random() < 0.8 else not one) for one in draw.choices([True, False], k=24)]
    assert kappa_interval({"one": pairs})[1:] == (None, None)
    apart = kappa_interval({str(k): [pair] for k, pair in enumerate(pairs)})
    together = kappa_interval({str(k): [pair] * 4 for k, pair in enumerate(pairs)})
    assert apart.value == pytest.approx(together.value)
    assert together.low == pytest.approx(apart.low, abs=0.06)  # four copies of an image are no more than it


def test_the_interval_covers() -> None:
    """Of 150 samples of 30 prompts with 2 images each, drawn at a known kappa, at least nine in ten are covered."""
    true, covered = 0.6, 0
    draw = np.random.default_rng(0)
    for sample in range(150):
        pairs = {}
        for prompt in range(30):
            mine = draw.random(2) < 0.5
            theirs = np.where(draw.random(2) < (1 + true) / 2, mine, ~mine)  # both halves: chance is 0.5
            pairs[str(prompt)] = [(bool(a), bool(b)) for a, b in zip(mine, theirs, strict=True)]
        _, low, high = kappa_interval(pairs, draws=400, seed=sample)
        covered += low is not None and high is not None and low <= true <= high
    assert covered >= 0.9 * 150, covered


def test_the_words_say_how_it_was_made() -> None:
    assert "2000 draws, seed 0" in interval_words()
